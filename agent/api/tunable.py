"""Settings that an operator may change while the daemon runs, and what makes each real."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from agent import logs
from agent.pipelines.spec import PipelineSpec, tunable
from agent.sync.desired import Choice, Group, Hours, Kind, Number

if TYPE_CHECKING:
    from agent.pipelines.runner import Pipelines
    from agent.sync.escalation import Escalations
    from agent.sync.policy import EscalationPolicy
    from agent.sync.settings import LinkSettings
    from agent.sync.uplink import Uplink

PIPELINE: Mapping[str, Kind] = {
    "summary_every_s": Number(1, 86_400),
    "raise_score": Number(0.1, 100),
    "raise_rows": Number(1, 1000, whole=True),
    "within_rows": Number(1, 1000, whole=True),
    "clear_score": Number(0, 1),
}
SYNC: Mapping[str, Kind] = {
    "bandwidth_bit_s": Number(0, 10**12, whole=True),
    "quiet_hours": Hours(),
}
ESCALATION: Mapping[str, Kind] = {"deadline_s": Number(1, 30 * 86_400)}
POLICY: Mapping[str, Kind] = {"below": Number(0, 1)}
ROOT: Mapping[str, Kind] = {"log_level": Choice(get_args(logs.LogLevel))}


def log_group(level: logs.LogLevel) -> Group:
    """What is logged."""
    return Group((), ROOT, {"log_level": level}, lambda v: logs.set_level(v["log_level"]))


def sync_group(settings: "LinkSettings", uplink: "Uplink") -> Group:
    """How fast and when telemetry is sent."""

    def apply(values: Mapping[str, Any]) -> None:
        uplink.throttle(values["bandwidth_bit_s"], values["quiet_hours"])

    defaults = {
        "bandwidth_bit_s": settings.bandwidth_bit_s,
        "quiet_hours": list(settings.quiet_hours),
    }
    return Group(("sync",), SYNC, defaults, apply)


def pipeline_groups(specs: Sequence[PipelineSpec], pipelines: "Pipelines") -> list[Group]:
    """When each pipeline warns and how often it sums up."""
    return [_pipeline_group(spec, pipelines) for spec in specs]


def escalation_groups(
    escalations: "Escalations", policies: "Sequence[EscalationPolicy]"
) -> list[Group]:
    """How long escalations are open, and which confidence is too low."""

    def apply(values: Mapping[str, Any]) -> None:
        escalations.settings = replace(escalations.settings, **values)

    defaults = {"deadline_s": escalations.settings.deadline_s}
    own = Group(("escalation",), ESCALATION, defaults, apply)
    return [own, *(_policy_group(policy, escalations) for policy in policies)]


def desired_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of what may be desired."""
    named = {"pipelines": PIPELINE, "policies": POLICY}
    properties = {name: kind.schema() for name, kind in ROOT.items()}
    properties |= {"sync": _object(SYNC), "escalation": _object(ESCALATION)}
    properties |= {
        name: {"type": "object", "additionalProperties": _object(kinds)}
        for name, kinds in named.items()
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _pipeline_group(spec: PipelineSpec, pipelines: "Pipelines") -> Group:
    def apply(values: Mapping[str, Any]) -> None:
        pipelines.retune(spec.name, values)

    return Group(("pipelines", spec.name), PIPELINE, tunable(spec), apply)


def _policy_group(policy: "EscalationPolicy", escalations: "Escalations") -> Group:
    def apply(values: Mapping[str, Any]) -> None:
        escalations.policies.put(replace(policy, **values))

    return Group(("policies", policy.name), POLICY, {"below": policy.below}, apply)


def _object(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    properties = {name: kind.schema() for name, kind in kinds.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}
