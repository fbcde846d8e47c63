"""Whether a constraint is small enough to be tried. Pure.

A grammar is turned into an automaton before the first token, and a short one can ask for more than fits
into memory: ``((a{1000}){1000}){1000}``, or ``{"type": "array", "minItems": 1000000000}``. The runtime
has bounds of its own for most of what a grammar may cost, and says so; these are for what it counts out
one by one before it looks at them.
"""

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from agent.engines.generation import Constraint, GenerationRequest, Sampling
from agent.engines.sampling import greedy
from agent.errors import BadPayload

MAX_CHARACTERS = 64 * 1024
MAX_STATES = (
    20_000  # of a constraint's expressions, each repetition counted as often as it asks for
)
MAX_DEPTH = 64  # objects and lists of a schema inside each other
MAX_COUNTED = 20_000  # elements and properties that a schema counts, all its bounds together
MAX_LENGTH = 2**31 - 1  # characters that a schema asks of a string
MAX_CHOICES = 5_000  # values of a schema's enums, all together
MAX_MULTIPLE = 100_000  # smallest common multiple of what a schema's numbers must be multiples of

_COUNTS = ("minItems", "maxItems", "minProperties", "maxProperties")
_LENGTHS = ("minLength", "maxLength")
_PATTERNS = ("pattern", "whitespace_pattern")
_JOINS = ("allOf", "anyOf", "oneOf", "$ref")  # what makes one schema of two
_REPEATED = re.compile(r"\{\s*(\d+)\s*(?:,\s*(\d*)\s*)?\}")


def check(constraint: Constraint, request: GenerationRequest) -> None:
    """Refuse what cannot be done.

    Raises:
        BadPayload: the constraint is too large, or goes with penalties that it cannot go with.
    """
    text, where = constraint.text, constraint.kind
    if len(text) > MAX_CHARACTERS:
        raise BadPayload(f"more than {MAX_CHARACTERS} characters", where=where)
    if constraint.kind == "regex":
        _bounded("states of the expression", states(text), MAX_STATES, where)
    else:
        check_schema(text)
    sampling = request.sampling
    if sampling.frequency_penalty or sampling.presence_penalty:
        raise BadPayload(
            "frequency and presence penalties do not go together with a constraint", where=where
        )


def rules(request: GenerationRequest) -> object:
    """What a generator that follows a request's constraint is fixed to; None for this request alone.

    A seed begins the random numbers of a generator once, and not again for the next answer.
    """
    sampling = request.sampling
    if greedy(sampling):
        sampling = Sampling(temperature=0, repetition_penalty=sampling.repetition_penalty)
    elif sampling.seed is not None:
        return None
    return request.constraint, sampling


# Schemas


def check_schema(text: str) -> None:
    """Refuse a JSON schema that asks for too much.

    Whatever has a keyword's name is taken for the keyword, also where it is a value.

    Raises:
        BadPayload: it is no JSON, or over a bound; the message says which.
    """
    where = "json_schema"
    try:
        schema = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise BadPayload(f"it is not JSON: {error}", where=where) from error
    counted, choices, expressions = 0, 0, 0
    multiples, joined = list[Decimal](), False
    for part in _objects(schema):
        counted += max((_whole(part.get(name)) for name in _COUNTS), default=0)
        for name in _LENGTHS:
            _bounded(f"characters by {name}", _whole(part.get(name)), MAX_LENGTH, where)
        choices += len(part["enum"]) if isinstance(part.get("enum"), list) else 0
        expressions += sum(map(states, _patterns(part)))
        multiples += _multiples(part)
        joined = joined or any(name in part for name in _JOINS)
    _bounded("elements and properties counted", counted, MAX_COUNTED, where)
    _bounded("values of enums", choices, MAX_CHOICES, where)
    _bounded("states of its expressions", expressions, MAX_STATES, where)
    _bounded("the multiple that numbers are of", _multiple(multiples, joined), MAX_MULTIPLE, where)


def _bounded(what: str, found: int, most: int, where: str) -> None:
    if found > most:
        raise BadPayload(f"{what}: {found if found < 10**12 else 'far'} over {most}", where=where)


def _objects(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Every object inside a schema. Raises BadPayload: they are too deep inside each other."""
    waiting = [(schema, 1)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            message = f"more than {MAX_DEPTH} objects and lists inside each other"
            raise BadPayload(message, where="json_schema")
        if isinstance(part, dict):
            yield part
            part = list(part.values())
        inner = part if isinstance(part, list) else []
        waiting += [(p, depth + 1) for p in inner if isinstance(p, dict | list)]


def _patterns(part: Mapping[str, Any]) -> Iterator[str]:
    yield from (part[name] for name in _PATTERNS if isinstance(part.get(name), str))
    by_pattern = part.get("patternProperties")
    if isinstance(by_pattern, dict):
        yield from by_pattern


def _multiples(part: Mapping[str, Any]) -> Iterator[Decimal]:
    value = part.get("multipleOf")
    if isinstance(value, int | float) and not isinstance(value, bool) and value:
        yield abs(Decimal(str(value)))


def _multiple(values: list[Decimal], joined: bool) -> int:
    """What the runtime computes remainders by, at most: of one number, or of all where they meet."""
    found = [value.as_tuple() for value in (v.normalize() for v in values)]
    scale = min((int(v.exponent) for v in found), default=0) if joined else None
    whole = []
    for v in found:
        digits = int("".join(map(str, v.digits)))
        up = int(v.exponent) - scale if scale is not None else max(int(v.exponent), 0)
        whole.append(digits * 10 ** min(up, 20))
    return math.lcm(*whole) if joined else max(whole, default=0)


def _whole(value: Any) -> int:
    """A bound's number; 0 for what is none, which the runtime refuses."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if math.isfinite(value) else MAX_LENGTH + 1


# Expressions


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
