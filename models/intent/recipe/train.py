"""The network: the first layers of MiniLM, the mean of what they say of each piece, and labels."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

LAYERS = 2  # of MiniLM's six
EPOCHS = 5
BATCH = 32
SORTED = 16  # batches that are cut of one sorted pile, so that texts of a batch are about as long
RATES = (2.5e-4, 3e-3)  # of learning: MiniLM's weights, and the new layer
WINDOW = 48  # tokens
LOST = 0.05  # of the pieces, while learning, so that no single one decides


class Intent(nn.Module):
    """Ids and mask, int64 [texts, tokens] -> logits, float32 [texts, labels].

    Args:
        folder: of all-MiniLM-L6-v2, as Hugging Face lays it out.
        pieces: ids of the word pieces that are kept; theirs are the rows of the table of words.
        labels: how many.
    """

    def __init__(self, folder: Path, pieces: Sequence[int], labels: int) -> None:
        from transformers import AutoModel

        super().__init__()
        self.encoder = AutoModel.from_pretrained(str(folder), local_files_only=True)
        self.encoder.encoder.layer = self.encoder.encoder.layer[:LAYERS]
        self.encoder.pooler = None
        table = self.encoder.embeddings.word_embeddings
        table.weight = nn.Parameter(table.weight[list(pieces)].clone())
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(table.weight.shape[1], labels)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.training:
            stay = torch.rand(ids.shape) > LOST
            stay[:, 0] = True  # the mark of a text's beginning
            mask = mask * stay
        state = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        there = mask[..., None].float()
        found: Tensor = self.last(self.drop((state * there).sum(1) / there.sum(1)))
        return found


class Texts:
    """Texts by chance, as ids and labels' numbers; other ones in each epoch."""

    def __init__(self, draw: Callable[[int], tuple[list[list[int]], NDArray[np.int64]]]) -> None:
        self._draw = draw

    def batches(self, epoch: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Ids, mask and labels of every batch, in an order by chance."""
        ids, labels = self._draw(epoch)
        found = []
        for pile in torch.randperm(len(ids)).split(SORTED * BATCH):
            rows = sorted(pile.tolist(), key=lambda n: len(ids[n]))
            for at in range(0, len(rows), BATCH):
                own = rows[at : at + BATCH]
                found.append((*padded([ids[n] for n in own]), torch.from_numpy(labels[own])))
        return [found[n] for n in torch.randperm(len(found)).tolist()]


def padded(ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask of texts, int64 [texts, tokens], as wide as the longest."""
    width = max(len(row) for row in ids)
    array = np.zeros((len(ids), width), np.int64)
    mask = np.zeros((len(ids), width), np.int64)
    for number, row in enumerate(ids):
        array[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return torch.from_numpy(array), torch.from_numpy(mask)


def train(
    folder: Path,
    pieces: Sequence[int],
    labels: int,
    texts: Texts,
    seed: int,
    say: Callable[[str], None] = print,
) -> Intent:
    """Learn from texts and their labels' numbers."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    model = Intent(folder, pieces, labels)
    slow, fast = RATES
    optimizer = torch.optim.AdamW(
        [
            {"params": list(model.encoder.parameters()), "lr": slow},
            {"params": list(model.last.parameters()), "lr": fast},
        ],
        weight_decay=0.01,
    )
    first = texts.batches(0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, list(RATES), total_steps=EPOCHS * len(first), pct_start=0.1
    )
    model.train()
    for epoch in range(EPOCHS):
        losses = []
        for ids, mask, wanted in first if epoch == 0 else texts.batches(epoch):
            loss = nn.functional.cross_entropy(model(ids, mask), wanted, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        say(f"epoch {epoch + 1} of {EPOCHS}: loss {np.mean(losses):.3f}")
    return model.eval()


def logits(model: Intent, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Of each text, float32 [texts, labels]."""
    with torch.no_grad():
        parts = [model(*padded(ids[at : at + BATCH])) for at in range(0, len(ids), BATCH)]
    found: NDArray[np.float32] = torch.cat(parts).numpy()
    return found
