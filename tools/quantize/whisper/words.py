"""Word errors. Pure."""

import re
import unicodedata
from collections.abc import Sequence


def words(text: str) -> list[str]:
    """What is compared: letters and digits of any script, without case, accents kept (NFKC).

    Apostrophes inside a word stay; every other mark parts words.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return re.findall(r"[\w\u0300-\u036f]+(?:'[\w]+)*", plain.replace("_", " "))


def errors(wanted: Sequence[str], found: Sequence[str]) -> int:
    """Fewest words to put in, take out or replace (Levenshtein 1966)."""
    row = list(range(len(found) + 1))
    for number, word in enumerate(wanted, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(found, 1):
            best = min(row[place] + 1, row[place - 1] + 1, before + (word != other))
            before, row[place] = row[place], best
    return row[-1]
