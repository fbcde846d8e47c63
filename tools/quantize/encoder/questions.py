"""Labelled texts that a classifier is judged on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.errors import BadModel, BadPayload, BadRequest
from tools.quantize.encoder.classifier import Question

MAX_FILE = 64 * 2**20  # bytes


def labels_of(config: Mapping[str, Any]) -> list[str]:
    """Labels of a sequence classifier in the order of its logits; empty for other models.

    Raises:
        BadModel: they are not numbered from 0.
    """
    names = config.get("architectures") or [""]
    if not str(names[0]).endswith("ForSequenceClassification"):
        return []
    found = config.get("id2label") or {}
    if len(found) < 2 or set(found) != {str(number) for number in range(len(found))}:
        message = "id2label must name two labels or more, numbered from 0"
        raise BadModel(message, where="config.json")
    return [str(found[str(number)]) for number in range(len(found))]


def read(path: Path | None, labels: Sequence[str]) -> list[Question]:
    """The texts of a file, by slice of their label.

    Raises:
        BadRequest: there is no file.
        BadPayload: a line is no label, a tab and a text; says which.
    """
    if path is None:
        hint = "--evaluate FILE: a label, a tab and a text in each line"
        raise BadRequest("a classifier is judged on labelled texts", where="--evaluate", hint=hint)
    try:
        if path.stat().st_size > MAX_FILE:
            raise BadPayload(f"at most {MAX_FILE >> 20} MiB", where=str(path))
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadPayload(f"cannot be read: {error}", where=str(path)) from error
    found = [
        _question(line, labels, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line
    ]
    if not found:
        raise BadPayload("there is no text", where=str(path))
    return found


def _question(line: str, labels: Sequence[str], where: str) -> Question:
    label, _, text = line.partition("\t")
    if label not in labels:
        raise BadPayload(f"no label of the model: {label[:64]}", where=where)
    if not text:
        raise BadPayload("there is no text after the label and a tab", where=where)
    return Question(text, label, (label,))
