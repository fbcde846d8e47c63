"""Which model is good enough, and which one is kept. Pure.

A loss is judged on the metric that comes first, over the whole evaluation set; by slice it is shown,
and judged where a limit for slices is given.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.errors import BadRequest
from tools.quantize.family import Score
from tools.quantize.report import Figures

#: Two medians this close are the same: what is left of a busy machine's noise after interleaving.
SAME_SPEED = 1.05


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest loss allowed.

    Attributes:
        amount: in the metric's unit, or a share of the original's value.
        relative: it is a share.
    """

    amount: float
    relative: bool

    def __str__(self) -> str:
        return f"{100 * self.amount:g}%" if self.relative else f"{self.amount:g}"


_LIMIT = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+)(?P<percent>\s*%)?\Z", re.ASCII)


def parse_limit(text: str) -> Limit:
    """A limit from ``1%`` (of the original's value) or ``0.01`` (in the metric's unit).

    Raises:
        BadRequest: it is neither.
    """
    found = _LIMIT.match(text.strip())
    if not found:
        raise BadRequest(f'"{text[:40]}" is no limit', hint="Write 1% of the value, or 0.01")
    relative = found["percent"] is not None
    return Limit(float(found["number"]) / (100 if relative else 1), relative)


@dataclass(frozen=True, slots=True)
class Drop:
    """How much worse a model is than the original on one slice; negative when it is better."""

    score: Score
    original: float

    @property
    def amount(self) -> float:
        """In the metric's unit."""
        lost = self.original - self.score.value
        return lost if self.score.higher_is_better else -lost

    def exceeds(self, limit: Limit) -> bool:
        """Whether more was lost than allowed; a value that is no number has lost everything."""
        if math.isnan(self.amount):
            return True
        allowed = limit.amount * (abs(self.original) if limit.relative else 1.0)
        return self.amount > allowed + 1e-9

    def __str__(self) -> str:
        share = f" ({self.amount / abs(self.original):.1%})" if self.original else ""
        where = "" if self.score.slice == "all" else f' on "{self.score.slice}"'
        return f"{self.score.metric}{where} {self.original:.4g} -> {self.score.value:.4g}{share}"


def drops(original: Sequence[Score], made: Sequence[Score]) -> list[Drop]:
    """What was lost on each slice that both have, in the order of `made`."""
    before = {(s.metric, s.slice): s.value for s in original}
    return [Drop(s, before[s.metric, s.slice]) for s in made if (s.metric, s.slice) in before]


def loss(
    original: Sequence[Score],
    made: Sequence[Score],
    limit: Limit | None,
    slice_limit: Limit | None = None,
) -> str:
    """Why a model is not good enough; empty when it is."""
    if not made:
        return ""
    deciding = [d for d in drops(original, made) if d.score.metric == made[0].metric]
    worst = list(_over(deciding, limit, slice_limit))
    if not worst:
        return ""
    return f"lost more than allowed: {'; '.join(str(drop) for drop in worst[:3])}"


def _over(deciding: Sequence[Drop], limit: Limit | None, slices: Limit | None) -> Iterator[Drop]:
    for drop in deciding:
        allowed = limit if drop.score.slice == "all" else slices
        if allowed is not None and drop.exceeds(allowed):
            yield drop


def size_class(size: int) -> int:
    """Sizes within one percent of each other are one: order among them is the family's."""
    return round(math.log(max(size, 1)) / math.log(1.01))


def slower(original: Figures, made: Figures) -> str:
    """Why a model is too slow to be chosen by itself; empty when it is not."""
    if not original.p50_ms or made.p50_ms <= original.p50_ms * SAME_SPEED:
        return ""
    return f"slower than the original: {made.p50_ms:.3g} ms, not {original.p50_ms:.3g} ms"
