"""The commented configuration that `edge-agent init` writes.

Made from the settings classes themselves: each key's comment is its line in the class's
"Attributes:" section and its value the class's default, so that file, documentation and code cannot
drift apart.
"""

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.api.settings import ApiSettings
from agent.config.settings import (
    DaemonSettings,
    DeviceSettings,
    ModelsSettings,
    SourceSettings,
)
from agent.identity.settings import EnrolmentSettings
from agent.pipelines.spec import PipelineLimits, PipelineSpec
from agent.store.outbox import OutboxLimits
from agent.sync.orders import CommandSettings
from agent.sync.policy import EscalationPolicy, EscalationSettings
from agent.sync.settings import LinkSettings

_ATTRIBUTE = re.compile(r"^(\w+): (.*)$")


def describe(cls: type) -> dict[str, str]:
    """Attribute name -> its text in the class's docstring."""
    section = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    texts: dict[str, str] = {}
    name = ""
    for line in textwrap.dedent(section).splitlines():
        if match := _ATTRIBUTE.match(line):
            name = match[1]
            texts[name] = match[2]
        elif line.startswith(" ") and name:
            texts[name] += " " + line.strip()
        elif line.strip():
            break
    return texts


def starter(*, device_id: str = "", broker: str = "", system: bool = False) -> str:
    """A commented configuration that runs as it is.

    Args:
        device_id: the device's name; empty for the host name.
        broker: the cloud's broker; empty leaves the table `sync` commented out.
        system: the system's places for state and socket instead of the file's own directory.
    """
    device: dict[str, Any] = {"id": device_id} if device_id else {}
    api: dict[str, Any] = {}
    if not system:
        device["state"] = "state"
        api["socket"] = "agent.sock"
    pipeline = {"name": "pump", "model": "pump-anomaly", "streams": ["*"]}
    parts = [
        _HEAD,
        *table("[device]", DeviceSettings, device),
        *table("[daemon]", DaemonSettings),
        *table("[models]", ModelsSettings, {"preload": ["pump-anomaly"]}),
        *table("[api]", ApiSettings, api),
        *table(
            "[sync]", LinkSettings, {"brokers": [broker]} if broker else None, live=bool(broker)
        ),
        *table("[enrolment]", EnrolmentSettings, live=False),
        *table("[outbox]", OutboxLimits),
        *table("[pipelines]", PipelineLimits),
        *table("[[pipeline]]", PipelineSpec, pipeline),
        *table("[[source]]", SourceSettings, live=False),
        *table("[commands]", CommandSettings),
        *table("[escalation]", EscalationSettings),
        *table("[[policy]]", EscalationPolicy, {"name": "doors", "models": ["door-*"]}, live=False),
    ]
    return "\n".join(parts)


_HEAD = """\
# edge-agent: the configuration of one device.
#
# A key that is commented out shows its default. Relative paths start at this file's directory.
# An environment variable EDGE_AGENT_<TABLE>__<KEY> overrides a key of a plain table.
"""


def table(
    header: str, cls: type, chosen: Mapping[str, Any] | None = None, *, live: bool = True
) -> Iterator[str]:
    """One table of the file, then the tables inside it.

    Args:
        header: for example ``[api]`` or ``[[pipeline]]``.
        cls: the settings class behind it.
        chosen: keys that are written out, with their values; the others show their default.
        live: False comments the header out, for tables that a plain device does not need.
    """
    values = chosen or {}
    lines = [f"# {summary(cls)}", header if live else f"#{header}"]
    texts = describe(cls)
    inner = []
    for item in dataclasses.fields(cls):
        default = _default(item)
        if dataclasses.is_dataclass(default):
            inner.append((f"[{header.strip('[]')}.{item.name}]", type(default)))
            continue
        lines += _comment(texts.get(item.name, ""))
        mark = "" if live and item.name in values else "#"
        lines.append(f"{mark}{item.name} = {literal(values.get(item.name, default))}")
    yield "\n".join(lines) + "\n"
    for inner_header, inner_cls in inner:
        yield from table(inner_header, typing.cast(type, inner_cls), live=False)


def summary(cls: type) -> str:
    """The first line of the class's docstring."""
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def literal(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    text = "" if value is None else str(value)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 96, initial_indent="# ", subsequent_indent="# ")


def _default(item: "dataclasses.Field[Any]") -> Any:
    if item.default is not dataclasses.MISSING:
        return item.default
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return typing.cast(Any, Path() if item.type is Path else "")
