"""One check that the settings of many rooms share."""

from agent.errors import BadConfig


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a setting outside its range, both ends included.

    Raises:
        BadConfig: it is outside; `where` is its name.
    """
    if not low <= value <= high:
        raise BadConfig(f"must be between {low:g} and {high:g}, not {value:g}", where=name)
