"""What a tensor model is worth: metrics by slice, from outputs over an evaluation set. Pure.

With labels: accuracy. With targets: mean absolute error. With neither: agreement with the float
model, as the share of equal decisions where the output is a row of classes and as the mean cosine
similarity of the outputs otherwise; both say nothing about how good the float model is.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.errors import BadPayload, BadRequest
from tools.quantize.family import Score
from tools.quantize.tensors.samples import Samples

Floats = NDArray[np.float64]
_DIGITS = re.compile(r"([0-9]+)")
MOST_CLASSES = 10_000

#: Per-sample values of a metric, from the outputs, the original's outputs and the set.
Metric = Callable[[Floats, Floats, Samples], Floats]


def _accuracy(outputs: Floats, _: Floats, samples: Samples) -> Floats:
    assert samples.labels is not None
    return np.asarray(decisions(outputs) == samples.labels, np.float64)


def _mean_absolute_error(outputs: Floats, _: Floats, samples: Samples) -> Floats:
    assert samples.targets is not None
    wanted = samples.targets.reshape(len(outputs), -1)
    return np.asarray(np.abs(outputs.reshape(len(outputs), -1) - wanted).mean(axis=1))


def _agreement(outputs: Floats, original: Floats, _: Samples) -> Floats:
    return np.asarray(decisions(outputs) == decisions(original), np.float64)


def _cosine(outputs: Floats, original: Floats, _: Samples) -> Floats:
    one, two = outputs.reshape(len(outputs), -1), original.reshape(len(original), -1)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    same = np.where((one == two).all(axis=1), 1.0, 0.0)  # two zero vectors point the same way
    return np.where(lengths > 0, (one * two).sum(axis=1) / np.where(lengths > 0, lengths, 1), same)


def _reconstruction_error(outputs: Floats, _: Floats, samples: Samples) -> Floats:
    """Mean squared error between output and input: what an autoencoder judges by."""
    given = np.asarray(next(iter(samples.inputs.values())), np.float64).reshape(len(outputs), -1)
    return np.asarray(np.square(outputs.reshape(len(outputs), -1) - given).mean(axis=1))


#: name -> (metric, higher is better)
METRICS: Mapping[str, tuple[Metric, bool]] = {
    "accuracy": (_accuracy, True),
    "mean absolute error": (_mean_absolute_error, False),
    "agreement with the float model": (_agreement, True),
    "cosine similarity to the float model": (_cosine, True),
    "reconstruction error": (_reconstruction_error, False),
}


def decisions(outputs: Floats) -> NDArray[np.int64]:
    """The class of each sample: the largest of its outputs, or the sign of a single one."""
    flat = outputs.reshape(len(outputs), -1)
    if flat.shape[1] == 1:
        return np.asarray(flat[:, 0] > 0, np.int64)
    return np.asarray(flat.argmax(axis=1))


def chosen(samples: Samples, sample_output: tuple[int, ...], asked: str = "") -> list[str]:
    """The metrics that a set allows, the deciding one first.

    Args:
        samples: the set.
        sample_output: shape of one sample's output.
        asked: a metric by name; empty takes what the set allows.

    Raises:
        BadRequest: the metric is unknown, or needs labels or targets that the set lacks.
        BadPayload: labels or targets are not of such an output.
    """
    names = [_allowed(asked, samples)] if asked else _by_default(samples, sample_output)
    for name in names:
        _check_fits(name, samples, sample_output)
    return names


def _by_default(samples: Samples, sample_output: tuple[int, ...]) -> list[str]:
    if samples.labels is not None:
        return ["accuracy", "agreement with the float model"]
    if samples.targets is not None:
        return ["mean absolute error"]
    classes = int(np.prod(sample_output))
    row = sum(size > 1 for size in sample_output) <= 1 and 1 < classes <= MOST_CLASSES
    same_as_input = any(a.shape[1:] == sample_output for a in samples.inputs.values())
    similar = "cosine similarity to the float model"
    return ["agreement with the float model", similar] if row and not same_as_input else [similar]


def _check_fits(name: str, samples: Samples, sample_output: tuple[int, ...]) -> None:
    """See that a metric compares like with like; NumPy would repeat what is too short."""
    size = int(np.prod(sample_output))
    origin = samples.origin or "the evaluation set"
    if name == "accuracy" and samples.labels is not None:
        classes = max(size, 2)  # a single output decides by its sign
        least, most = int(samples.labels.min()), int(samples.labels.max())
        if least < 0 or most >= classes:
            message = f"labels from {least} to {most}, the model knows classes 0 to {classes - 1}"
            raise BadPayload(message, where=f"{origin}: labels")
    if name == "mean absolute error" and samples.targets is not None:
        _check_size(samples.targets.shape[1:], sample_output, f"{origin}: targets")
    if name == "reconstruction error":
        given, array = next(iter(samples.inputs.items()))
        _check_size(array.shape[1:], sample_output, f"{origin}: {given}")


def _check_size(found: tuple[int, ...], wanted: tuple[int, ...], where: str) -> None:
    if int(np.prod(found)) != int(np.prod(wanted)):
        message = f"shape {list(found)} for each sample, the output's is {list(wanted)}"
        raise BadPayload(message, where=where)


def _allowed(asked: str, samples: Samples) -> str:
    if asked not in METRICS:
        raise BadRequest(f'there is no metric "{asked[:60]}"', hint=f"Known: {', '.join(METRICS)}")
    lacks = {"accuracy": samples.labels, "mean absolute error": samples.targets}
    if asked in lacks and lacks[asked] is None:
        what = "labels" if asked == "accuracy" else "targets"
        raise BadRequest(f"the evaluation set has no {what}", where=f"metric {asked}")
    return asked


def scores(
    names: Sequence[str], outputs: Floats, original: Floats, samples: Samples
) -> list[Score]:
    """Each metric over the whole set; the deciding one by slice too."""
    found: list[Score] = []
    groups = sorted(set(samples.slices), key=_natural)
    members = np.array(samples.slices, dtype=object)
    for name in names:
        metric, higher = METRICS[name]
        values = metric(outputs, original, samples)
        found.append(Score(name, float(values.mean()), "all", len(values), higher))
        for group in groups if len(groups) > 1 and name == names[0] else ():
            part = values[members == group]
            found.append(Score(name, float(part.mean()), group, len(part), higher))
    return found


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that puts "class 2" before "class 10"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(text)]
