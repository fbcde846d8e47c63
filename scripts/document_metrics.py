#!/usr/bin/env python3
"""Writes docs/metrics.md from the calls that make the metrics, so that page and code cannot drift apart.

scripts/document_metrics.py           write the page
scripts/document_metrics.py --check   exit 1 when it is out of date
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "metrics.md"

#: What makes a metric, and its type in Prometheus' text format.
KINDS = {
    "counter": "counter",
    "tally": "counter",
    "tally_callback": "counter",
    "gauge": "gauge",
    "gauge_callback": "gauge",
    "histogram": "histogram",
}
NAME = re.compile(r"(edge_agent|process)_[a-z_]+")

HEAD = """\
# Metrics

`GET /metrics` answers in Prometheus' text format, version 0.0.4; callers need the role viewer. A collector on the device reads it from the socket, for example Telegraf:

```toml
[[inputs.prometheus]]
  urls = ["unix:///run/edge-agent/agent.sock"]
```

Prometheus itself reads no Unix socket: give it a token of the role viewer (`edge-agent token --role viewer`) and the address of `[api] tcp`:

```yaml
scrape_configs:
  - job_name: edge-agent
    scheme: https
    authorization: {credentials_file: token}
    static_configs: [{targets: ["pump-7:8443"]}]
```

Worth an alarm, as a beginning:

| Expression | What it tells |
| --- | --- |
| `edge_agent_outbox_messages{class="escalation"} > 0` for minutes | warnings do not reach the cloud |
| `increase(edge_agent_outbox_evicted_total[1h]) > 0` | the outbox is full, and telemetry is given up |
| `increase(edge_agent_worker_ends_total[1h]) > 3` | a model crashes again and again |
| `edge_agent_certificate_left_seconds < 604800` | the device's certificate is not renewed |
| `process_start_time_seconds` changes | the daemon was started again |

Metrics without a unit in their name are numbers of things. One is there once what it belongs to is configured: those of MQTT with a broker, for example. A metric has at most 500 series; later label values are
counted together as `other`. Counters begin at 0 with each start of the daemon, except those of the outbox, which count since the device was set up.

This table is made from the code by `make docs`:

| Metric | Type | Labels | Meaning |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True, order=True)
class Documented:
    """A metric as the code makes it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str

    @property
    def row(self) -> str:
        """Its line of the table."""
        labels = ", ".join(f"`{label}`" for label in self.labels)
        return f"| `{self.name}` | {self.kind} | {labels} | {self.help} |\n"


def page() -> str:
    """The whole page."""
    return HEAD + "".join(metric.row for metric in sorted(set(made())))


def made() -> Iterator[Documented]:
    """Every metric that some part of the agent makes."""
    for path in sorted((ROOT / "agent").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and (found := _metric(node)):
                yield found


def _metric(call: ast.Call) -> Documented | None:
    called = call.func
    word = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    texts = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
    if word not in KINDS or len(texts) < 2 or not NAME.fullmatch(str(texts[0])):
        return None
    tuples = [ast.literal_eval(arg) for arg in call.args if isinstance(arg, ast.Tuple)]
    return Documented(
        str(texts[0]), KINDS[word], tuple(tuples[-1]) if tuples else (), str(texts[1])
    )


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(PAGE.read_text() != page())
    PAGE.write_text(page())
