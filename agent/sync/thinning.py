"""Telemetry of a long outage, folded: several summaries of a stream become one of a longer stretch. Pure.

The fields are those of the published telemetry: stretches join (``from``, ``to``), counts add up,
extremes stay extremes, means are weighted by the windows they were taken over. What is not a number
is the latest. ``thinned`` says how many summaries went into an aggregate.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agent.types import Message

_COUNTS = ("windows", "rows", "readings")


def merge_telemetry(messages: Sequence[Message]) -> Message | None:
    """One message for several of one topic, oldest first.

    The aggregate's id derives from the ids of what went into it, so that folding the same messages
    again after a power cut gives the same message.

    Returns:
        None when they are not summaries of one stream, model and phase.
    """
    try:
        bodies = [msgspec.json.decode(message.payload, type=dict[str, Any]) for message in messages]
        body = _merge(bodies)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return None
    last = messages[-1]
    id_ = f"{last.id}.{body['thinned']}"
    return Message(
        id=id_,
        kind=last.kind,
        topic=last.topic,
        payload=msgspec.json.encode({**body, "id": id_}),
        created=last.created,
        expires=max(message.expires for message in messages),
    )


def _merge(bodies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, last = bodies[0], bodies[-1]
    if len({(body["stream"], body["model"], body["phase"]) for body in bodies}) != 1:
        raise ValueError("a change of model or phase is worth keeping")
    merged = {**last, "from": first["from"], "to": last["to"]}
    merged |= {name: sum(body[name] for body in bodies) for name in _COUNTS}
    merged["dropped"] = _add([body["dropped"] for body in bodies])
    merged["score"] = _scores([body for body in bodies if body["score"] is not None])
    merged["thinned"] = sum(body.get("thinned", 1) for body in bodies)
    return merged


def _add(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    reasons = {reason for one in counts for reason in one}
    return {reason: sum(one.get(reason, 0) for one in counts) for reason in sorted(reasons)}


def _scores(bodies: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    if not bodies:
        return None
    weights = [max(1, body["windows"]) for body in bodies]
    means = [body["score"]["mean"] for body in bodies]
    mean = sum(m * w for m, w in zip(means, weights, strict=True)) / sum(weights)
    return {
        "min": min(body["score"]["min"] for body in bodies),
        "mean": round(mean, 4),
        "max": max(body["score"]["max"] for body in bodies),
    }
