"""What `edge-agent status --watch` shows: two looks at a daemon as lines of text. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from agent.telemetry.metrics import Distribution

Status = Mapping[str, Any]


class Recent(NamedTuple):
    """Requests of a model between two looks.

    Attributes:
        rate: a second.
        p50_ms: None without requests.
        p99_ms: None without requests.
    """

    rate: float
    p50_ms: float | None
    p99_ms: float | None


def recent(
    now: Mapping[str, Any], before: Mapping[str, Any], edges_ms: Sequence[float], seconds: float
) -> Recent:
    """What a model did between two looks.

    Args:
        now: the model's figures.
        before: those of the look before; empty when there was none.
        edges_ms: upper edges of their counts, milliseconds.
        seconds: between the looks.
    """
    older = before.get("counts") or [0] * len(now["counts"])
    spread = Distribution(len(now["counts"]))
    spread.counts = [max(0, n - o) for n, o in zip(now["counts"], older, strict=True)]
    count = sum(spread.counts)
    if not count:
        return Recent(0.0, None, None)
    middle, tail = (spread.quantile(q, edges_ms) for q in (0.5, 0.99))
    return Recent(count / seconds, middle, tail)


def screen(now: Status, before: Status, width: int, height: int) -> list[str]:
    """Lines for a terminal of so many columns and rows.

    Args:
        now: the newest look.
        before: the look before it; the same one for the first.
        width: columns; longer lines are cut.
        height: rows; what does not fit is counted in the last one.
    """
    # A daemon that was started again counts from nothing.
    seconds = now["uptime_s"] - before["uptime_s"]
    older = before if seconds >= 0 else {**before, "models": [], "serving": {}}
    elapsed = seconds if seconds > 0 else max(now["uptime_s"], 0.001)
    lines = [*_head(now, older, elapsed), "", *_models(now, older, elapsed)]
    lines += [*_streams(now), *_outbox(now)]
    if len(lines) > height:
        hidden = len(lines) - height + 1
        lines = [*lines[: height - 1], f"… {hidden} more lines"]
    return [line if len(line) <= width else line[: width - 1] + "…" for line in lines]


def _head(now: Status, before: Status, seconds: float) -> Iterator[str]:
    state = "ready" if now["ready"] else "NOT READY: " + "; ".join(now["reasons"])
    yield f"{now['device']}: {state}"
    serving, older = now["serving"], before.get("serving") or {}
    same = now is before
    rate = 0.0 if same else (serving["requests"] - older.get("requests", 0)) / seconds
    refused = 0.0 if same else (serving["refused"] - older.get("refused", 0)) / seconds
    machine = now["machine"]
    yield (
        f"{_number(rate)} requests/s, {_number(refused)} refused/s, {serving['running']} under way, "
        f"{serving['waiting']} waiting, {serving['connections']} connections"
    )
    yield (
        f"processor {_number(machine['cpu_percent'])} %, memory {_number(machine['memory_mib'])} MiB, "
        f"{_number(machine['available_mib'])} MiB free"
    )


def _models(now: Status, before: Status, seconds: float) -> list[str]:
    known = {(model["name"], model["version"]): model for model in before["models"]}
    rows = []
    for model in now["models"]:
        older = known.get((model["name"], model["version"]), {})
        found = recent(model, model if now is before else older, now["edges_ms"], seconds)
        cells = (found.rate, found.p50_ms, found.p99_ms, model.get("memory_mib"))
        name, state = f"{model['name']} {model['version']}", model["state"].lower()
        rows.append((name, state, str(model["requests"]), *map(_number, cells)))
    return _table(("MODEL", "STATE", "REQUESTS", "A SECOND", "P50 MS", "P99 MS", "MIB"), rows)


def _streams(now: Status) -> list[str]:
    rows = [
        (
            stream["stream"],
            "WARNING" if stream["warning"] else stream["phase"],
            str(stream["readings"]),
            _number(stream["score"]),
        )
        for stream in now["streams"]
    ]
    return ["", *_table(("STREAM", "PHASE", "READINGS", "SCORE"), rows)] if rows else []


def _outbox(now: Status) -> list[str]:
    box, link = now["outbox"], now["link"]
    if box is None or link is None:
        return []
    return [
        "",
        f"outbox: {box['queued']} queued, {box['delivered']} delivered, link {link['state']}",
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [heads, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
