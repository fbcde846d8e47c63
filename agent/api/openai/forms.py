"""Forms with files (multipart/form-data, RFC 7578). The only file that imports python-multipart."""

from dataclasses import dataclass, field
from typing import Any

from agent.errors import BadPayload, EngineMissing

MEDIA = "multipart/form-data"
MAX_PARTS = 64
MAX_FIELD = 64 * 1024  # bytes of a part that is no file


@dataclass(slots=True)
class Form:
    """What was filled in.

    Attributes:
        fields: texts by name, in their order.
        files: bytes by name; of several with one name the last.
    """

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, memoryview] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """A field's value, the last of several; None where there is none."""
        given = self.fields.get(name)
        return given[-1] if given else None


def read(body: bytes, content_type: str) -> Form:
    """The form in a body.

    Raises:
        BadPayload: it is none, or has too many parts, or too long a field.
        EngineMissing: the library is not installed.
    """
    multipart = _library()
    kind, options = multipart.parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != MEDIA.encode() or not boundary:
        raise BadPayload(f"expected {MEDIA} with a boundary", where="Content-Type")
    reader = _Reader(multipart)
    try:
        parser = multipart.MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except (multipart.MultipartParseError, multipart.FormParserError) as error:
        raise BadPayload(f"not a form: {error}", where="body") from error
    if not reader.ended:
        raise BadPayload("the form ends early", where="body")
    return reader.form


class _Reader:
    """Gathers parts as the parser finds them."""

    def __init__(self, multipart: Any) -> None:
        self.form = Form()
        self.ended = False
        self._multipart = multipart
        self._parts = 0
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._data: list[memoryview] = []

    def callbacks(self) -> dict[str, Any]:
        """By the parser's names for them."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadPayload(f"a form of more than {MAX_PARTS} parts", where="body")
        self._headers, self._data = {}, []

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(memoryview(data)[start:end])

    def _part_end(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        _, options = self._multipart.parse_options_header(disposition)
        name = options.get(b"name", b"").decode(errors="replace")
        if not name:
            raise BadPayload("a part of the form has no name", where="body")
        whole = self._data[0] if len(self._data) == 1 else memoryview(b"".join(self._data))
        if b"filename" in options:
            self.form.files[name] = whole
            return
        if len(whole) > MAX_FIELD:
            raise BadPayload(f"more than {MAX_FIELD // 1024} KiB", where=name)
        try:
            self.form.fields.setdefault(name, []).append(bytes(whole).decode())
        except UnicodeDecodeError as error:
            raise BadPayload(f"not UTF-8: {error}", where=name) from error

    def _end(self) -> None:
        self.ended = True


def _library() -> Any:
    try:
        from python_multipart import multipart
    except ImportError as error:
        hint = "Run: pip install 'edge-agent[speech]'"
        raise EngineMissing("python-multipart is not installed", hint=hint) from error
    return multipart
