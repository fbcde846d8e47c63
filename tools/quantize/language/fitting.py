"""The memory that fitting weights to what a model reads (GPTQ) takes on a workstation."""

import json
from pathlib import Path
from typing import Any

FLOAT, DOUBLE = 4, 8  # bytes
COPIES = 4  # of one curvature in float64, while its matrix is settled


def needed(source: Path) -> int:
    """Bytes, by the sizes that a GGUF file or a Hugging Face folder names; 0 where it names none."""
    layers, hidden, inner = _of_gguf(source) if source.is_file() else _of_folder(source)
    return curvatures(layers, hidden, inner) + COPIES * DOUBLE * max(hidden, inner) ** 2


def curvatures(layers: int, hidden: int, inner: int) -> int:
    """Bytes of the curvatures of all matrices, which are held at once.

    In each layer one of what the attention reads, one of what it gives, one of what the feed-forward
    reads, and one of its inside: float32 [K, K]. One more is what the head reads.
    """
    return FLOAT * (layers * (3 * hidden**2 + inner**2) + hidden**2)


def _of_folder(folder: Path) -> tuple[int, int, int]:
    try:
        config = json.loads((folder / "config.json").read_bytes())
        names = ("num_hidden_layers", "hidden_size", "intermediate_size")
        layers, hidden, inner = (int(config[name]) for name in names)
    except (OSError, ValueError, KeyError, TypeError):  # said where the folder is read
        return 0, 0, 0
    return layers, hidden, inner


def _of_gguf(file: Path) -> tuple[int, int, int]:
    try:
        import gguf

        fields = gguf.GGUFReader(file).fields
        kind = fields["general.architecture"].contents()
        names = ("block_count", "embedding_length", "feed_forward_length")
        layers, hidden, inner = (_number(fields[f"{kind}.{name}"]) for name in names)
    except Exception:  # noqa: BLE001 - said where it is read
        return 0, 0, 0
    return layers, hidden, inner


def _number(field: Any) -> int:
    return int(field.contents())
