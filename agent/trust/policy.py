"""The rules of trust as pure functions: time, versions seen, layout, files and tensors.

Values and a `now` go in; a value comes out or an error is raised. Nothing here reads a file, a
clock or a signature: signatures are `updater`'s.

Time. An edge device's clock may stand in 1970 after a battery died, or be pushed to 2100 by
whoever answers its NTP requests. Expiry is judged at the later of the wall clock and the horizon:

- the horizon never goes back, so that a clock that fell back does not revive what has expired;
- the horizon is the wall time of the last refresh that succeeded. It succeeded because every
  accepted file expires later than that. So the horizon never passes the expiry of something that
  was accepted, and whatever is published afterwards, which expires later still, is accepted again:
  a false jump forward can make a device refuse for as long as the clock is wrong, and no longer;
- versions seen are remembered beside it, so that a lost metadata cache does not open the way back;
- when the keys of the roles that speak of time (timestamp, snapshot) are replaced by a newer root,
  the horizon starts again: a stolen key cannot lock the device for ever by signing far futures.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from agent.errors import Altered, BadModel, BadRepository, RolledBack
from agent.trust.manifest import Manifest
from agent.types import TensorSpec

#: No device that runs this code lived before: 2026-01-01, seconds since the epoch.
EARLIEST_TIME = 1_767_225_600.0

#: Of the repository, our layout above TUF's: how packages are named in it.
NEWEST_LAYOUT = 1

SAME_SCALE = (
    1e-6  # relative; a scale is a float32 in the model file and decimal text in the manifest
)


class Horizon(Struct, frozen=True):
    """The newest repository state that was accepted.

    Attributes:
        time: wall time of the last refresh that succeeded, seconds since the epoch.
        timestamp: version of the newest timestamp metadata.
        snapshot: version of the newest snapshot metadata.
        keys: key ids of the timestamp and snapshot roles, sorted.
    """

    time: float = EARLIEST_TIME
    timestamp: int = 0
    snapshot: int = 0
    keys: tuple[str, ...] = ()


def judged_time(wall: float, horizon: Horizon) -> float:
    """The time at which expiry is judged, seconds since the epoch."""
    return max(wall, horizon.time, EARLIEST_TIME)


def advance(horizon: Horizon, seen: Horizon) -> Horizon:
    """The horizon after a refresh that succeeded.

    Raises:
        RolledBack: the repository is older than one that was accepted.
    """
    if seen.keys != horizon.keys:
        return seen
    for role in ("timestamp", "snapshot"):
        old, new = getattr(horizon, role), getattr(seen, role)
        if new < old:
            raise RolledBack(
                f"version {new} of the repository's {role} is older than {old}, which was accepted",
                hint="Use the current repository",
            )
    return Horizon(max(horizon.time, seen.time), seen.timestamp, seen.snapshot, seen.keys)


def check_layout(layout: object) -> None:
    """Refuse a repository whose packages are named by rules of a later release.

    Raises:
        BadRepository: of a newer layout, or not a layout number at all.
    """
    if type(layout) is not int or layout < 1:
        raise BadRepository("the repository does not say which layout it has")
    if layout > NEWEST_LAYOUT:
        raise BadRepository(
            f"layout {layout} is newer than this agent, which reads up to {NEWEST_LAYOUT}",
            hint="Update the agent first",
        )


def check_files(manifest: Manifest, signed: Mapping[str, tuple[int, str]]) -> None:
    """The manifest and the signed list of files must say the same.

    Args:
        manifest: of the package.
        signed: size and SHA-256 of each signed file but the manifest, by path in the package.

    Raises:
        Altered: they differ.
    """
    listed = {file.path: (file.size, file.sha256) for file in manifest.files}
    for path in sorted(listed.keys() | signed.keys()):
        if listed.get(path) != signed.get(path):
            raise Altered(
                "the manifest and the signed list differ", where=f"{manifest.ref}: {path}"
            )


def check_tensors(
    manifest: Manifest, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    """The manifest's tensors must be those that the model file declares.

    Raises:
        BadModel: they differ; the message names the tensor.
    """
    for way, promised, actual in (
        ("input", manifest.inputs, inputs),
        ("output", manifest.outputs, outputs),
    ):
        known = {spec.name: spec for spec in actual}
        _check_names(way, promised, known)
        for spec in promised:
            _check_tensor(f"{way} {spec.name}", spec, known[spec.name])


def check_labels(manifest: Manifest) -> None:
    """A classifier of texts must name each of its logits, or its answers would be another's.

    Raises:
        BadModel: it names too few or too many, or one twice.
    """
    if manifest.task != "text-classification":
        return
    where = "model.toml: parameters"
    labels = manifest.parameters.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise BadModel("a text classifier needs labels, a list of texts", where=where)
    if len(set(labels)) != len(labels):
        raise BadModel("a label is named twice", where=where)
    widths = {spec.shape[1] for spec in manifest.outputs if len(spec.shape) == 2} - {-1}
    if widths - {len(labels)}:
        raise BadModel(f"{len(labels)} labels for {max(widths)} logits", where=where)


def _check_names(way: str, promised: Iterable[TensorSpec], known: Mapping[str, TensorSpec]) -> None:
    names = {spec.name for spec in promised}
    if names != known.keys():
        there, said = ", ".join(sorted(known)), ", ".join(sorted(names))
        raise BadModel(f"the model has the {way}s {there}; its manifest says {said}")


def _check_tensor(where: str, promised: TensorSpec, actual: TensorSpec) -> None:
    if promised.dtype != actual.dtype:
        message = f"the model has {actual.dtype}, its manifest says {promised.dtype}"
        raise BadModel(message, where=where)
    if not _same_shape(promised.shape, actual.shape):
        message = f"the model has {list(actual.shape)}, its manifest says {list(promised.shape)}"
        raise BadModel(message, where=where)
    if actual.quantization and not _same_quantization(promised, actual):
        message = f"the model has {actual.quantization}, its manifest says {promised.quantization}"
        raise BadModel(message, where=where)


def _same_shape(promised: Sequence[int], actual: Sequence[int]) -> bool:
    """A manifest may fix a size that the model file leaves free, and not the other way round."""
    return len(promised) == len(actual) and all(
        have in (-1, want) for want, have in zip(promised, actual, strict=True)
    )


def _same_quantization(promised: TensorSpec, actual: TensorSpec) -> bool:
    want, have = promised.quantization, actual.quantization
    return (
        want is not None
        and have is not None
        and want.zero_point == have.zero_point
        and math.isclose(want.scale, have.scale, rel_tol=SAME_SCALE)
    )
