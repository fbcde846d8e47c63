"""The network: a convolution that sees the whole dial and spreads its belief over the scale."""

from collections.abc import Iterator

import numpy as np
import torch
from dataset import Pictures
from torch import Tensor, nn

BINS = 64  # of the belief
LOW, HIGH = -0.05, 1.05  # of the scale, first and last bin
SPREAD = 0.02  # of the belief that is taught, standard deviation, share of the scale

EPOCHS = 16
BATCH = 128


class GaugeReader(nn.Module):
    """Pictures, float32 [n, 1, 96, 96] from 0 to 1 -> belief in each bin, logits [n, BINS]."""

    def __init__(self) -> None:
        super().__init__()
        channels = (1, 16, 32, 32, 48, 64)
        strides = (2, 2, 1, 2, 2)
        layers: list[nn.Module] = []
        for before, after, stride in zip(channels, channels[1:], strides, strict=False):
            size = 5 if before == 1 else 3
            layers += [
                nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(64 * 6 * 6, 128), nn.ReLU(), nn.Linear(128, BINS)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def positions() -> Tensor:
    """The place of each bin on the scale, float32 [BINS]."""
    return torch.linspace(LOW, HIGH, BINS)


def value_of(logits: Tensor) -> Tensor:
    """The expected value, share of the scale, float32 [n]."""
    return logits.softmax(1) @ positions()


def train(data: Pictures, held_out: Pictures, seed: int, epochs: int = EPOCHS) -> GaugeReader:
    """Teach the belief and its mean; prints the held-out error after each epoch."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    model = GaugeReader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
    steps = epochs * -(-len(data.values) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for epoch in range(epochs):
        model.train()
        for images, values in _batches(data):
            optimizer.zero_grad()
            _loss(model(images), values).backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: held-out error {mean_error(model, held_out):.2%}", flush=True)
    return model.eval()


def mean_error(model: GaugeReader, data: Pictures) -> float:
    """Mean absolute error, share of the scale."""
    model.eval()
    with torch.no_grad():
        parts = [value_of(model(_floats(part))) for part in np.array_split(data.images, 20)]
    return float((torch.cat(parts) - torch.from_numpy(data.values)).abs().mean())


def _loss(logits: Tensor, values: Tensor) -> Tensor:
    taught = torch.softmax(-(((positions() - values[:, None]) / SPREAD) ** 2) / 2, 1)
    belief = nn.functional.cross_entropy(logits, taught)
    return belief + 10 * nn.functional.smooth_l1_loss(value_of(logits), values, beta=0.02)


def _batches(data: Pictures) -> Iterator[tuple[Tensor, Tensor]]:
    for rows in torch.randperm(len(data.values)).split(BATCH):
        yield _floats(data.images[rows.numpy()]), torch.from_numpy(data.values)[rows]


def _floats(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).float().div(255)[:, None]
