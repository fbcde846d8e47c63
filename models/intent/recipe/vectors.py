"""What MiniLM makes of each word piece alone, in fewer dimensions: knowledge of words never taught."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

WIDTH = 96
LENGTH = 4.0  # of a vector, root of the mean square
BLOCK = 512  # pieces at once


def vectors(folder: Path) -> NDArray[np.float32]:
    """float32 [pieces, WIDTH]: the principal components of each piece's sentence vector.

    Args:
        folder: of all-MiniLM-L6-v2, as Hugging Face lays it out.
    """
    from transformers import AutoConfig, AutoModel

    model = AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
    pieces = AutoConfig.from_pretrained(str(folder), local_files_only=True).vocab_size
    with torch.no_grad():
        parts = [_alone(model, at, min(pieces, at + BLOCK)) for at in range(0, pieces, BLOCK)]
    wide = np.concatenate(parts)
    centred = wide - wide.mean(0)
    _, _, axes = np.linalg.svd(centred[::3], full_matrices=False)
    narrow = centred @ axes[:WIDTH].T
    scaled: NDArray[np.float32] = narrow / np.sqrt((narrow**2).sum(1).mean()) * LENGTH
    return scaled.astype(np.float32)


def _alone(model: torch.nn.Module, first: int, last: int) -> NDArray[np.float32]:
    ids = torch.tensor([[101, piece, 102] for piece in range(first, last)])  # between CLS and SEP
    state = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    found: NDArray[np.float32] = state.mean(1).numpy()
    return found
