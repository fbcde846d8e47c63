"""What a question becomes before it is stored: redacted, bounded, without what the policy keeps back."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadConfig, BadPayload, NotFound, TooLarge
from agent.guard.redact import Redaction
from agent.sync.asking import MAX_ANSWER, MAX_CONTEXT, Frame, compose, parse_answer, parse_asked
from agent.sync.policy import EscalationPolicy, Policies

FRAME = Frame("dev-1", "m-1", "edge/d/dev-1/escalation/q-1", "q-1", 1000, 1.7e9, 60.0)
OPEN = EscalationPolicy("open", send_input=True, send_image=True, blank=("0,0,2,1",))
PGM = base64.b64encode(b"P5 4 2 255\n" + bytes(range(1, 9))).decode()


def body(fields: dict, policy: EscalationPolicy | None = None, redaction: Redaction | None = None):
    policy = policy or EscalationPolicy("default")
    case, message = compose(parse_asked(fields), policy, redaction or Redaction(), FRAME)
    assert case.body == message.payload
    return json.loads(message.payload)


def test_by_default_only_the_digest_of_the_input_leaves():
    sent = body({"input": "my secret", "image": PGM, "context": {"question": "?", "notes": "n"}})
    assert "input" not in sent
    assert "image" not in sent
    assert sent["context"] == {"question": "?"}
    assert len(sent["digest"]) == 64


def test_nothing_personal_is_in_the_row_even_where_the_policy_sends_the_input():
    sent = body(
        {"input": {"email": "x", "text": "a@b.example"}, "context": {"question": "call +44 20 7946 0958"}},
        OPEN,
    )  # fmt: skip
    assert sent["input"] == {"email": "[redacted]", "text": "[email]"}
    assert sent["context"] == {"question": "call [phone]"}


def test_an_image_leaves_as_png_with_its_regions_blank():
    sent = body({"image": PGM, "regions": [[3, 1, 1, 1]]}, OPEN)
    assert base64.b64decode(sent["image"]).startswith(b"\x89PNG")
    assert body({"image": PGM}, OPEN)["image"] != sent["image"]
    assert body({"image": PGM})["digest"] == sent["digest"]


def test_the_same_question_is_the_same_request_and_another_is_not():
    def request(**fields):
        return compose(parse_asked(fields), OPEN, Redaction(), FRAME)[0].request

    assert request(input="a", context={"question": "x", "output": 1}) == request(
        id="other", deadline_s=5, context={"output": 1, "question": "x"}, input="a"
    )
    assert request(input="a") != request(input="b")


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"id": "a/b"}, "id"),
        ({"id": "+"}, "id"),
        ({"id": "$SYS"}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"confidence": 1.5}, "confidence"),
        ({"context": []}, "context"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"digest": "xyz"}, "digest"),
        ({"reason": "A B"}, "reason"),
        ({"unknown": 1}, "body"),
        ([], "body"),
    ],
)
def test_a_wrong_field_is_named(fields, where):
    with pytest.raises(BadPayload) as caught:
        parse_asked(fields)
    assert caught.value.where == where


@pytest.mark.parametrize("image", ["!", base64.b64encode(b"JFIF").decode()])
def test_an_image_that_is_none_is_refused_before_anything_is_stored(image):
    with pytest.raises(BadPayload):
        body({"image": image}, OPEN)


def test_context_at_the_bound_goes_and_over_it_does_not():
    fits = MAX_CONTEXT - 100
    assert body({"context": {"question": "x" * fits}})
    with pytest.raises(TooLarge):
        body({"context": {"question": "x" * MAX_CONTEXT}})


@pytest.mark.parametrize(
    "payload",
    [b"", b"nine", b"[]", b"{}", b'{"answer": }', b'{"by": "x"}', b'{"answer": 1, "by": 5}', b"\xff",
     b'{"answer": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"],
)  # fmt: skip
def test_what_is_no_answer_is_refused(payload):
    with pytest.raises(BadPayload):
        parse_answer(payload)


def test_an_answer_over_its_bound_is_refused():
    with pytest.raises(TooLarge):
        parse_answer(b'{"answer": "' + b"x" * MAX_ANSWER + b'"}')


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(), st.lists))
def test_any_json_value_is_an_answer(value):
    assert json.loads(bytes(parse_answer(json.dumps({"answer": value}).encode()).answer)) == value


def test_a_policy_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(NotFound, match="default, open"):
        Policies([OPEN]).named("shut")


def test_a_policy_takes_the_models_that_its_patterns_name():
    policies = Policies([EscalationPolicy("doors", models=("door-*",))])
    assert policies.of_model("door-2").name == "doors"
    assert policies.of_model("window") is None


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"name": "x", "below": 2}, {"name": "x", "blank": ("1,2",)}]
)
def test_a_policy_that_means_nothing_is_refused(wrong):
    with pytest.raises(BadConfig):
        EscalationPolicy(**wrong)
