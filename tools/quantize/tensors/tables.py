"""A csv file as numbers: a header, and a sample in each row."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.errors import BadPayload

_SPECIAL = ("label", "target", "slice")


@dataclass(frozen=True, slots=True)
class Table:
    """What a file holds.

    Attributes:
        values: [rows, columns], all columns that have no other meaning.
        labels: [rows]; None where there is no such column.
        targets: [rows]; None where there is no such column.
        slices: [rows]; empty where there is no such column.
    """

    values: NDArray[np.float64]
    labels: NDArray[np.int64] | None
    targets: NDArray[np.float64] | None
    slices: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Cells:
    path: Path
    head: Sequence[str]
    rows: Sequence[tuple[int, Sequence[str]]]  # with the number of the line

    def numbers(self, columns: Sequence[int], dtype: type[np.generic]) -> NDArray[Any]:
        """[rows, columns]. Raises BadPayload, which names the first cell that is none."""
        cells = [[row[place] for place in columns] for _, row in self.rows]
        try:
            return np.array(cells, dtype).reshape(len(cells), len(columns))
        except (ValueError, OverflowError) as error:
            raise self._no_number(columns, dtype, error) from error

    def _no_number(
        self, columns: Sequence[int], dtype: type[np.generic], error: Exception
    ) -> BadPayload:
        kind = "integer" if issubclass(dtype, np.integer) else "number"
        for line, row in self.rows:
            for place in columns:
                try:
                    np.array([row[place]], dtype)
                except (ValueError, OverflowError):
                    where = f'{self.path}, line {line}, column "{self.head[place]}"'
                    return BadPayload(f'no {kind}: "{row[place][:40]}"', where=where)
        return BadPayload(f"cannot be read as a table of numbers: {error}", where=str(self.path))


def read(path: Path) -> Table:
    """The numbers of a file.

    Raises:
        BadPayload: it is no such table; says in which line.
    """
    cells = _cells(path)
    places = {name: cells.head.index(name) for name in _SPECIAL if name in cells.head}
    values = [n for n, name in enumerate(cells.head) if name not in _SPECIAL]
    labels, targets = (
        cells.numbers([places[name]], dtype)[:, 0] if name in places else None
        for name, dtype in (("label", np.int64), ("target", np.float64))
    )
    slices = [row[places["slice"]] for _, row in cells.rows] if "slice" in places else []
    return Table(cells.numbers(values, np.float64), labels, targets, slices)


def _cells(path: Path) -> _Cells:
    try:
        with path.open(newline="") as file:
            reader = csv.reader(file)
            head = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:
        raise BadPayload(f"cannot be read as a table: {error}", where=str(path)) from error
    if not head:
        raise BadPayload("the first line names no column", where=str(path))
    for line, row in rows:
        if len(row) != len(head):
            message = f"{len(row)} values for {len(head)} columns"
            raise BadPayload(message, where=f"{path}, line {line}")
    return _Cells(path, head, rows)
