"""The network: a small convolution over one sensor's window, the same for every sensor."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]

EPOCHS = 8
BATCH = 1024
SCALE = 1 / 24  # of the quantized input; int8 then reaches to 100 healthy standard deviations
CLIP = 127 * SCALE


def network(points: int) -> nn.Module:
    """[n, 3, points], compressed views -> [n, 2], log-odds that machine and sensor are faulty."""
    after = points
    for stride in (1, 2, 2):
        after = (after + stride - 1) // stride
    return nn.Sequential(
        nn.Conv1d(3, 32, 5, stride=1, padding=2), nn.ReLU(),
        nn.Conv1d(32, 64, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv1d(64, 64, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * after, 32), nn.ReLU(),
        nn.Linear(32, 2),
    )  # fmt: skip


def train(data: Pair, held_out: Pair, seed: int) -> nn.Module:
    """Train to tell windows that show a fault from those that do not; prints the held-out loss."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    x, y = (torch.from_numpy(part) for part in data)
    x = x.clamp(-CLIP, CLIP)
    model = network(x.shape[-1])
    steps = EPOCHS * (len(x) // BATCH + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    loss_of = nn.BCEWithLogitsLoss()
    for epoch in range(EPOCHS):
        model.train()
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            # The sign of a sensor is a convention of its maker.
            sign = torch.randint(0, 2, (len(batch), 1, 1)) * torch.tensor([2, 2, 0])[None, :, None]
            sign += torch.tensor([-1, -1, 1])[None, :, None]
            loss = loss_of(model(x[batch] * sign), y[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: held-out loss {_held_out(model, held_out):.4f}", flush=True)
    return model.eval()


def _held_out(model: nn.Module, data: Pair) -> float:
    model.eval()
    with torch.no_grad():
        x, y = (torch.from_numpy(part) for part in data)
        out = model(x.clamp(-CLIP, CLIP))
        return float(nn.functional.binary_cross_entropy_with_logits(out, y))
