"""From what a caller asks to what is stored and sent: redacted first, raw input left out. Pure."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from agent.clock import rfc3339
from agent.errors import BadPayload, TooLarge
from agent.guard.redact import Redaction
from agent.store.cases import Case
from agent.sync.policy import EscalationPolicy, parse_region
from agent.types import Message

MAX_CONTEXT = 64 << 10  # bytes of JSON that may leave
MAX_ANSWER = 64 << 10  # bytes of JSON that may come back
MAX_DEADLINE_S = 30 * 86_400.0

Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")]
Short = Annotated[str, Meta(max_length=100)]

_encode = msgspec.json.Encoder(order="sorted", enc_hook=str).encode


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """A question for a person or a larger model.

    Attributes:
        id: chosen by the caller, so that it may ask again after a cut; empty for one of ours.
        policy: which policy says what may leave.
        reason: why it is asked, for example low-confidence, guarded, asked.
        model, version: whose answer is in doubt.
        confidence: of that answer, 0 to 1.
        digest: of the input, SHA-256 in hexadecimal; computed where the input is given.
        input: what the model was given; stays on the device unless the policy sends it.
        image: a frame as binary PGM or PPM in base64; as the input.
        regions: of the image, to be blanked: x, y, width, height in pixels.
        context: what helps to answer, by the names that the policy lets through.
        deadline_s: within which an answer is of use, seconds.
    """

    id: Id | None = None
    policy: Short = "default"
    reason: Annotated[str, Meta(pattern=r"^[a-z][a-z-]{0,40}\Z")] = "asked"
    model: Short = ""
    version: Short = ""
    confidence: Annotated[float, Meta(ge=0, le=1)] | None = None
    digest: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    input: Any = UNSET
    image: str | UnsetType = UNSET
    regions: Annotated[list[tuple[int, int, int, int]], Meta(max_length=256)] = []
    context: dict[str, Any] = {}
    deadline_s: Annotated[float, Meta(gt=0, le=MAX_DEADLINE_S)] | None = None


class Answer(msgspec.Struct):
    """What comes back, as JSON.

    Attributes:
        answer: any JSON value.
        by: the person or the model that answered.
    """

    answer: msgspec.Raw
    by: Annotated[str, Meta(max_length=200)] = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """Names and moments that go around a question.

    Attributes:
        device: the device's name.
        message: id of the message that carries it.
        topic: where it goes, by the case's id.
        id: of the case.
        owner: user that asks; None for the agent.
        now: wall time, seconds since the epoch.
        deadline_s: where the caller does not say, seconds.
    """

    device: str
    message: str
    topic: str
    id: str
    owner: int | None
    now: float
    deadline_s: float


def parse_asked(fields: object) -> Asked:
    """The question in a decoded JSON object.

    Raises:
        BadPayload: it is none; `where` names the field.
    """
    try:
        return msgspec.convert(fields, Asked)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        raise BadPayload(text, where=path.rstrip("`") or "body") from None


def parse_answer(payload: bytes) -> Answer:
    """The answer in a message.

    Raises:
        TooLarge: it is over 64 KiB.
        BadPayload: it is none.
    """
    if len(payload) > MAX_ANSWER:
        raise TooLarge(f"an answer of {len(payload)} bytes is over {MAX_ANSWER} bytes")
    try:
        answer = msgspec.json.decode(payload, type=Answer)
        msgspec.json.decode(answer.answer)  # Raw is not looked into, and a caller will
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadPayload(f"not an answer: {error}") from None
    return answer


def compose(
    asked: Asked, policy: EscalationPolicy, redaction: Redaction, frame: Frame
) -> tuple[Case, Message]:
    """The case to store and the message to send; neither holds more than the policy lets through.

    Raises:
        BadPayload: the image cannot be read.
        TooLarge: what would be sent is over its bound.
    """
    substance = _substance(asked, policy, redaction)
    request = hashlib.sha256(_encode(substance)).hexdigest()
    deadline = frame.now + (asked.deadline_s or frame.deadline_s)
    head = {
        "id": frame.message,
        "device": frame.device,
        "time": rfc3339(frame.now),
        "class": "escalation",
        "kind": "question",
        "escalation": frame.id,
        "deadline": rfc3339(deadline),
    }
    body = msgspec.json.encode({**head, **substance}, enc_hook=str)
    case = Case(
        frame.id, frame.owner, request, "", asked.model, asked.version, substance.get("digest", ""),
        frame.now, deadline, body,
    )  # fmt: skip
    return case, Message(frame.message, "escalation", frame.topic, body, frame.now)


def _substance(asked: Asked, policy: EscalationPolicy, redaction: Redaction) -> dict[str, Any]:
    """What is asked, as it may be stored."""
    found: dict[str, Any] = {"reason": asked.reason, "policy": policy.name}
    if asked.model:
        found["model"] = redaction.text(f"{asked.model} {asked.version}".strip())
    if asked.confidence is not None:
        found["confidence"] = round(asked.confidence, 6)
    image = b"" if asked.image is UNSET else _image_bytes(asked.image)
    if digest := asked.digest or _digest(asked.input, image):
        found["digest"] = digest
    allowed = {name: asked.context[name] for name in policy.context if name in asked.context}
    if allowed:
        found["context"] = redaction.value(allowed)
    if policy.send_input and asked.input is not UNSET:
        found["input"] = redaction.value(asked.input)
    if len(_encode(found)) > MAX_CONTEXT:
        raise TooLarge(f"context and input are over {MAX_CONTEXT} bytes", where="context")
    if policy.send_image and image:
        found["image"] = _blanked(image, asked.regions, policy.blank)
    return found


def _digest(value: Any, image: bytes) -> str:
    if image:
        return hashlib.sha256(image).hexdigest()
    return "" if value is UNSET else hashlib.sha256(_encode(value)).hexdigest()


def _image_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise BadPayload(f"is not base64: {error}", where="image") from None


def _blanked(
    image: bytes, regions: Sequence[tuple[int, int, int, int]], always: Sequence[str]
) -> str:
    """A PNG in base64."""
    from agent.guard.images import Region, blank, read_pnm, write_png

    hidden = [Region(*region) for region in [*regions, *map(parse_region, always)]]
    return base64.b64encode(write_png(blank(read_pnm(image), hidden))).decode()
