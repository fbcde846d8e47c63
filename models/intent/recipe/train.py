"""The network: vectors of word pieces, one layer over each, their mean and largest, and labels."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

HIDDEN = 256
EPOCHS = 12
BATCH = 128
WINDOW = 48  # tokens


class Intent(nn.Module):
    """Ids and mask, int64 and float32 [texts, tokens] -> logits, float32 [texts, labels].

    Args:
        vectors: float32 [pieces, width], of each word piece; they are not trained.
        labels: how many.
    """

    def __init__(self, vectors: NDArray[np.float32], labels: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.from_numpy(vectors), persistent=False)
        self.each = nn.Linear(vectors.shape[1], HIDDEN)
        self.last = nn.Linear(2 * HIDDEN, labels)
        self.drop = nn.Dropout(0.4)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        there = mask[..., None]
        seen = torch.relu(self.each(self.drop_words(self.vectors[ids]))) * there
        mean = seen.sum(1) / there.sum(1)
        return self.last(self.drop(torch.cat([mean, seen.amax(1)], 1)))

    def drop_words(self, rows: Tensor) -> Tensor:
        """Without a tenth of the words while learning, so that no single one decides."""
        if not self.training:
            return rows
        return rows * (torch.rand(rows.shape[:2]) > 0.1)[..., None]


def padded(ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask of texts, cut at the window."""
    width = max(len(row) for row in ids)
    array = np.zeros((len(ids), width), np.int64)
    mask = np.zeros((len(ids), width), np.float32)
    for number, row in enumerate(ids):
        array[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return torch.from_numpy(array), torch.from_numpy(mask)


def train(
    vectors: NDArray[np.float32],
    ids: Sequence[Sequence[int]],
    labels: NDArray[np.int64],
    seed: int,
    epochs: int = EPOCHS,
) -> Intent:
    """Learn from texts and their labels' numbers."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    model = Intent(vectors, int(labels.max()) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    steps = epochs * -(-len(ids) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    wanted = torch.from_numpy(labels)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(ids)).split(BATCH):
            logits = model(*padded([ids[n] for n in rows.tolist()]))
            loss = nn.functional.cross_entropy(logits, wanted[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def logits(model: Intent, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Of each text, float32 [texts, labels]."""
    with torch.no_grad():
        parts = [model(*padded(ids[at : at + BATCH])) for at in range(0, len(ids), BATCH)]
    found: NDArray[np.float32] = torch.cat(parts).numpy()
    return found
