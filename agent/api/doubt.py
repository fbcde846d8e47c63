"""How sure a model is of an answer, read from the answer itself; too little becomes an escalation."""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agent.api.inference import Call, Inference
from agent.api.served import Reply
from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.store.cases import Case
    from agent.sync.escalation import Escalations
    from agent.sync.policy import EscalationPolicy

_log = logging.getLogger(__name__)
_PREFERRED = re.compile(r"(?:^|,)\s*escalate(?:\s*=\s*\"?([\w.-]{1,64})\"?)?\s*(?:[;,]|$)")

Tensors = Sequence[Mapping[str, Any]]


class Opinion(NamedTuple):
    """What an answer says.

    Attributes:
        confidence: 0 to 1.
        best: number of the class that it names.
    """

    confidence: float
    best: int


class Query(NamedTuple):
    """An inference whose answer may be in doubt.

    Attributes:
        call: the inference.
        policy: by which a doubtful answer becomes an escalation.
        owner: user that asks.
        wait_s: how long it waits for the answer to the escalation, seconds; 0 not at all.
    """

    call: Call
    policy: "EscalationPolicy"
    owner: int
    wait_s: int


class Doubts:
    """Inference whose doubtful answers become escalations, where a policy or the caller wants it."""

    def __init__(self, inference: Inference, escalations: "Escalations | None") -> None:
        self._inference = inference
        self._escalations = escalations

    def policy(self, model: str, prefer: bytes) -> "EscalationPolicy | None":
        """The policy for an answer of this model; None for nearly all requests.

        Raises:
            NotFound: the caller prefers one that there is not.
        """
        if self._escalations is None:
            return None
        policies = self._escalations.policies
        chosen = _PREFERRED.search(prefer.decode("latin-1")) if prefer else None
        if chosen:
            return policies.named(chosen[1] or "default")
        return policies.of_model(model)

    async def infer(self, query: Query) -> Reply:
        """As `Inference.infer`, with ``parameters`` that name the escalation where there is one.

        An escalation that cannot be made is logged: the answer itself is given all the same.
        """
        reply = self._inference.infer(query.call)
        if not isinstance(reply, tuple):
            reply = await reply
        model = await self._inference.loaded(query.call.name, query.call.version)
        parameters = model.manifest.parameters
        threshold = query.policy.below or _number(parameters.get("confidence_threshold"))
        fields: dict[str, Any] = msgspec.json.decode(reply[0])
        opinion = read_opinion(fields, reply[1], str(parameters.get("confidence_output", "")))
        if opinion is None or opinion.confidence >= threshold:
            return reply
        labels = parameters.get("labels") or ()
        label = labels[opinion.best] if opinion.best < len(labels) else opinion.best
        try:
            case = await self._escalate(query, fields, opinion, label)
        except AgentError as error:
            _log.warning("a doubtful answer stays: %s", error, extra={"model": query.call.name})
            return reply
        fields["parameters"] = {**fields.get("parameters", {}), **_told(case, opinion)}
        return msgspec.json.encode(fields), reply[1]

    async def _escalate(
        self, query: Query, fields: Mapping[str, Any], opinion: Opinion, label: object
    ) -> "Case":
        from agent.sync.asking import Asked

        assert self._escalations is not None
        asked = Asked(
            policy=query.policy.name,
            reason="low-confidence",
            model=str(fields["model_name"])[:100],
            version=str(fields.get("model_version", ""))[:100],
            confidence=opinion.confidence,
            digest=hashlib.sha256(query.call.body).hexdigest(),
            context={"output": label},
        )
        case, _ = await self._escalations.ask(asked, query.owner)
        return await self._escalations.wait(case, query.wait_s) if query.wait_s else case


def read_opinion(
    fields: Mapping[str, Any], binary: Sequence[bytes | memoryview], name: str
) -> Opinion | None:
    """The confidence of an answer of the Open Inference Protocol: its largest probability.

    Values that are no probabilities are taken as logits. Of several rows the least sure one counts.

    Args:
        fields: the answer's JSON.
        binary: the tensors after it.
        name: of the output that holds one value for each class; empty for the first.

    Returns:
        None where the answer does not hold such a tensor, for example because it went to the caller's
        shared memory.
    """
    import numpy as np

    from agent.engines.base import NUMPY_DTYPES

    data = b"".join(bytes(part) for part in binary)
    at = 0
    for output in fields.get("outputs", ()):
        size = (output.get("parameters") or {}).get("binary_data_size", 0)
        own, at = data[at : at + size], at + size
        if name not in {"", output["name"]} or not output["datatype"].startswith("FP"):
            continue
        values = output.get("data")
        if values is None and not size:
            return None
        flat = np.frombuffer(own, NUMPY_DTYPES[output["datatype"]]) if size else np.asarray(values)
        classes = output["shape"][-1] if output["shape"] else 1
        rows = flat.astype(np.float64).reshape(-1, max(classes, 1))
        return _least_sure(rows) if rows.size and np.isfinite(rows).all() else None
    return None


def _least_sure(rows: Any) -> Opinion:
    """Of finite values [n, classes]."""
    import numpy as np

    if (rows < 0).any() or not np.allclose(rows.sum(axis=1), 1.0, atol=0.02):
        powers = np.exp(rows - rows.max(axis=1, keepdims=True))
        rows = powers / powers.sum(axis=1, keepdims=True)
    row = int(rows.max(axis=1).argmin())
    return Opinion(float(min(1.0, rows[row].max())), int(rows[row].argmax()))


def _told(case: "Case", opinion: Opinion) -> dict[str, Any]:
    """Parameters of the protocol are texts, numbers and booleans."""
    told: dict[str, Any] = {"escalation": case.id, "confidence": round(opinion.confidence, 6)}
    if case.answer is not None:
        told["escalation_answer"] = case.answer.decode()
        told["escalation_by"] = case.source
    return told


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
