"""Whether a constraint is small enough to be tried. Pure.

A grammar is turned into an automaton before the first token, and a short expression can ask for one
that fills the memory: ``((a{1000}){1000}){1000}``.
"""

import re

from agent.engines.generation import Constraint, GenerationRequest
from agent.errors import BadPayload

MAX_CHARACTERS = 64 * 1024
MAX_STATES = 20_000  # of an expression, each repetition counted as often as it asks for

_REPEATED = re.compile(r"\{(\d+)(?:,(\d*))?\}")


def check(constraint: Constraint, request: GenerationRequest) -> None:
    """Refuse what cannot be done.

    Raises:
        BadPayload: the constraint is too large, or goes with penalties that it cannot go with.
    """
    text, where = constraint.text, constraint.kind
    if len(text) > MAX_CHARACTERS:
        raise BadPayload(f"more than {MAX_CHARACTERS} characters", where=where)
    if constraint.kind == "regex" and states(text) > MAX_STATES:
        raise BadPayload(f"repeats more than {MAX_STATES} times in all", where=where)
    sampling = request.sampling
    if sampling.frequency_penalty or sampling.presence_penalty:
        raise BadPayload(
            "frequency and presence penalties do not go together with a constraint", where=where
        )


def states(pattern: str) -> int:
    """About how many states an expression needs; characters of classes and escapes count too."""
    sums, last, place = [0], [0], 0  # of each open group: its states so far, and its last part's
    while place < len(pattern):
        found = _REPEATED.match(pattern, place)
        character = pattern[place]
        if found:
            times = max(int(found[1]), int(found[2] or 0), 1)
            sums[-1] += last[-1] * (times - 1)
            last[-1] *= times
        elif character == "(":
            sums.append(0)
            last.append(0)
        elif character == ")" and len(sums) > 1:
            group = sums.pop()
            last.pop()
            sums[-1] += group
            last[-1] = group
        else:
            sums[-1] += 1
            last[-1] = 1
        place = found.end() if found else place + (2 if character == "\\" else 1)
    return sum(sums)
