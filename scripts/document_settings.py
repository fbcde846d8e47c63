#!/usr/bin/env python3
"""Writes docs/configuration.md from the settings classes, so that page and code cannot drift apart.

scripts/document_settings.py           write the page
scripts/document_settings.py --check   exit 1 when it is out of date
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.api.settings import ApiSettings
from agent.config.settings import DaemonSettings, DeviceSettings, ModelsSettings, SourceSettings
from agent.config.template import describe, literal, summary
from agent.identity.settings import EnrolmentSettings
from agent.pipelines.spec import PipelineLimits, PipelineSpec
from agent.store.outbox import OutboxLimits
from agent.sync.orders import CommandSettings
from agent.sync.policy import EscalationPolicy, EscalationSettings
from agent.sync.settings import LinkSettings

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"

TABLES: tuple[tuple[str, type], ...] = (
    ("[device]", DeviceSettings),
    ("[daemon]", DaemonSettings),
    ("[models]", ModelsSettings),
    ("[api]", ApiSettings),
    ("[sync]", LinkSettings),
    ("[enrolment]", EnrolmentSettings),
    ("[outbox]", OutboxLimits),
    ("[pipelines]", PipelineLimits),
    ("[[pipeline]]", PipelineSpec),
    ("[[source]]", SourceSettings),
    ("[commands]", CommandSettings),
    ("[escalation]", EscalationSettings),
    ("[[policy]]", EscalationPolicy),
)

HEAD = """\
# Configuration

One TOML file, given by `--config`, or else `./edge-agent.toml`, or else `/etc/edge-agent/edge-agent.toml`.
`edge-agent init DIRECTORY` writes a commented one. An unknown or wrong key is refused with its line, what was
expected and the nearest known key. Relative paths start at the file's directory.

An environment variable `EDGE_AGENT_<TABLE>__<KEY>` overrides a key of a plain table, for example
`EDGE_AGENT_DEVICE__ID=pump-7`.

The keys and their defaults, as the code has them (this page is made by `make docs`):
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    seen: dict[type, str] = {}
    for header, cls in TABLES:
        parts += section(header, cls, seen)
    return "\n".join(parts)


def section(header: str, cls: type, seen: dict[type, str]) -> Iterator[str]:
    """One table of the file, then the tables inside it; keys that stand above already are not repeated."""
    if cls in seen:
        yield f"## `{header}`\n\nThe same keys as `{seen[cls]}`.\n"
        return
    seen[cls] = header
    texts = {name: text.replace("<", "&lt;") for name, text in describe(cls).items()}
    rows, inner = [], []
    for item in dataclasses.fields(cls):
        value = default(item)
        if dataclasses.is_dataclass(value):
            inner.append((f"[{header.strip('[]')}.{item.name}]", type(value)))
            continue
        rows.append(f"| `{item.name}` | {shown(header, item.name, value)} | {texts[item.name]} |")
    yield f"## `{header}`\n\n{summary(cls)}\n\n| Key | Default | Meaning |\n| --- | --- | --- |"
    yield "\n".join(rows) + "\n"
    for inner_header, inner_cls in inner:
        yield from section(inner_header, inner_cls, seen)


def default(item: "dataclasses.Field[object]") -> object:
    """A key's default, or MISSING when it must be given."""
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def shown(header: str, name: str, value: object) -> str:
    """A default as the page shows it."""
    if (header, name) == ("[device]", "id"):
        return "the host's name"
    if value is dataclasses.MISSING:
        return "required"
    return "none" if value is None else f"`{literal(value)}`"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(PAGE.read_text() != page())
    PAGE.write_text(page())
