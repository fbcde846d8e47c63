"""Forms with files, well made and otherwise."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata

from agent.api.openai import forms
from agent.errors import BadPayload

NAMES = st.text(st.characters(codec="utf-8", exclude_characters='\r\n"\\\0'), min_size=1)


@given(
    st.dictionaries(NAMES, st.text(max_size=50), max_size=forms.MAX_PARTS // 2),
    st.dictionaries(NAMES, st.binary(max_size=300), max_size=forms.MAX_PARTS // 2),
)
def test_what_is_filled_in_arrives(fields: dict[str, str], files: dict[str, bytes]) -> None:
    given = [*fields.items(), *((name, ("a.wav", data)) for name, data in files.items())]
    if not given:
        return
    body, media = encode_multipart_formdata(given)
    form = forms.read(body, media)
    assert {name: form.text(name) for name in fields} == fields
    assert {name: bytes(data) for name, data in form.files.items()} == files


def test_a_field_may_be_given_twice_and_a_missing_one_is_none() -> None:
    form = forms.read(*encode_multipart_formdata([("a[]", "1"), ("a[]", "2")]))
    assert form.fields == {"a[]": ["1", "2"]}
    assert form.text("a[]") == "2"
    assert form.text("b") is None


@pytest.mark.parametrize(
    "media",
    [
        *("", "application/json", "multipart/form-data", "multipart/form-data; boundary="),
        *("multipart/mixed; boundary=x", "multipart/form-data; boundary=" + "x" * 300),
    ],
)
def test_what_is_no_form_is_refused(media: str) -> None:
    body, _ = encode_multipart_formdata({"a": "b"}, boundary="x")
    with pytest.raises(BadPayload):
        forms.read(body, media)


def test_a_form_that_ends_early_is_refused_wherever_that_is() -> None:
    body, media = encode_multipart_formdata({"a": "b", "file": ("x", b"12345")})
    for end in range(len(body) - 3):
        with pytest.raises(BadPayload):
            forms.read(body[:end], media)


def test_parts_and_fields_are_bounded() -> None:
    most = [("a", "b")] * forms.MAX_PARTS
    assert len(forms.read(*encode_multipart_formdata(most)).fields["a"]) == forms.MAX_PARTS
    with pytest.raises(BadPayload, match="64 parts"):
        forms.read(*encode_multipart_formdata([*most, ("a", "b")]))
    forms.read(*encode_multipart_formdata({"a": "b" * forms.MAX_FIELD}))
    with pytest.raises(BadPayload, match="64 KiB"):
        forms.read(*encode_multipart_formdata({"a": "b" * (forms.MAX_FIELD + 1)}))


def test_a_part_without_a_name_and_a_text_that_is_none_are_refused() -> None:
    with pytest.raises(BadPayload, match="no name"):
        forms.read(
            b"--x\r\nContent-Type: a/b\r\n\r\nhello\r\n--x--\r\n", f"{forms.MEDIA}; boundary=x"
        )
    with pytest.raises(BadPayload, match="not UTF-8"):
        forms.read(*encode_multipart_formdata({"a": b"\xff\xfe"}))


def test_headers_without_end_are_refused() -> None:
    body = b"--x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"\r\na\r\n--x--\r\n"
    with pytest.raises(BadPayload, match="not a form"):
        forms.read(body, f"{forms.MEDIA}; boundary=x")


@given(st.binary(max_size=400))
def test_no_bytes_do_more_than_be_refused(body: bytes) -> None:
    with suppress(BadPayload):
        forms.read(b"--x\r\n" + body, f"{forms.MEDIA}; boundary=x")
