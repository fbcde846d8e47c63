"""A package directory, whole or not at all.

Everything is written under a temporary name beside the place, checked as a device would check it
(manifest, digests, load, tensors, golden cases), and renamed. A package that was there before is
replaced only then. A folder `recipe` in it, which makes the package, stays.
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agent.engines.base import EngineOptions, Session
from agent.engines.catalog import load_session
from agent.errors import BadManifest, BadModel
from agent.registry.layout import check_space, storage, sync_directory
from agent.registry.trial import try_model
from agent.trust.manifest import Manifest, parse_manifest
from agent.types import TensorSpec
from tools.quantize import toml
from tools.quantize.arrays import archived
from tools.quantize.family import Artifact, Description, GoldenInput, Score
from tools.quantize.toml import GOLDEN_FILE

RECIPE = "recipe"  # a folder in a package's place that makes the package; it is no part of it


@dataclass(frozen=True, slots=True)
class Identity:
    """What the person says of the package: its name and under which terms it may be used."""

    name: str
    version: str
    license: str
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """All that goes into a package.

    Attributes:
        identity: name, version, licence, summary.
        artifact: the files.
        description: the rest of the manifest.
        scores: the evaluation card's rows.
        memory_mib: of a loaded session, where the description does not say.
        documents: further files with the role "doc", by path.
    """

    identity: Identity
    artifact: Artifact
    description: Description
    scores: Sequence[Score] = ()
    memory_mib: int = 64
    documents: Mapping[str, bytes] = field(default_factory=dict)


def write_package(out: Path, draft: Draft) -> Manifest:
    """Write a package and prove that it runs.

    Args:
        out: the package's directory; replaced when it is a package already, but for its recipe.
        draft: what goes into it.

    Raises:
        BadManifest: the fields do not make a manifest that the agent accepts.
        BadModel: the place holds something that is no package, or the model cannot be loaded.
        GoldenFailed: the model does not give the same result twice.
        StorageFailed: the disk is full, read-only or failing.
    """
    check_place(out)
    half_made = out.with_name(f".{out.name}.new")
    shutil.rmtree(half_made, ignore_errors=True)
    try:
        with storage(half_made):
            half_made.mkdir(parents=True)
            check_space(half_made, draft.artifact.size)
        manifest = _fill(half_made, draft)
        if (out / RECIPE).is_dir():
            shutil.copytree(out / RECIPE, half_made / RECIPE)
        _put_in_place(half_made, out)
    except BaseException:
        shutil.rmtree(half_made, ignore_errors=True)
        raise
    return manifest


def check_place(out: Path) -> None:
    """See that a package can be put there, before hours of work. Raises BadModel."""
    if out.exists() and not _is_package(out):
        raise BadModel(
            "the place holds something that is no part of a package",
            where=str(out),
            hint="Give --out a new directory",
        )


def check_identity(identity: Identity) -> None:
    """See that the agent would accept the words, before hours of work. Raises BadManifest."""
    tensor = TensorSpec("any", "FP32", (1,))
    words = Draft(identity, Artifact(Path(), {}, "any"), Description("any", [tensor], [tensor]))
    model: dict[str, str | int] = {"path": "any", "role": "model", "sha256": "0" * 64, "size": 1}
    parse_manifest(toml.manifest(words, [model]).encode(), where="the package")


def _is_package(place: Path) -> bool:
    """Whether it holds a package and nothing else, or nothing: only that may be replaced."""
    if not place.is_dir():
        return False
    inside = (path.relative_to(place) for path in place.rglob("*") if not path.is_dir())
    found = {str(path) for path in inside if path.parts[0] != RECIPE}
    if not found:
        return True
    try:
        manifest = parse_manifest((place / "model.toml").read_bytes())
    except (OSError, BadManifest):
        return False
    return found <= {"model.toml", *(file.path for file in manifest.files)}


def _fill(place: Path, draft: Draft) -> Manifest:
    roles = _copy(place, draft)
    if draft.description.golden:
        (place / GOLDEN_FILE).write_bytes(_golden(place, draft.artifact, draft.description))
        roles[GOLDEN_FILE] = "golden"
    text = toml.manifest(draft, _files(place, roles))
    (place / "model.toml").write_text(text)
    manifest = parse_manifest(text.encode())
    try_model(manifest, {file.path: (place / file.path).read_bytes() for file in manifest.files})
    return manifest


def _copy(place: Path, draft: Draft) -> dict[str, str]:
    """Put the files in place; their roles by path."""
    artifact = draft.artifact
    with storage(place):
        for path in artifact.files:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.directory / path, place / path)
        for path, data in draft.documents.items():
            (place / path).write_bytes(data)
    return {**artifact.files, **dict.fromkeys(draft.documents, "doc")}


def _files(place: Path, roles: Mapping[str, str]) -> list[dict[str, str | int]]:
    """The manifest's list of files; digests are taken in pieces, files may be larger than memory."""
    return [
        {
            "path": path,
            "role": role,
            "sha256": digest(place / path),
            "size": (place / path).stat().st_size,
        }
        for path, role in roles.items()
    ]


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _golden(place: Path, artifact: Artifact, description: Description) -> bytes:
    """The archive of the golden cases, computed by the engine that devices use."""
    files = {path: (place / path).read_bytes() for path in artifact.files}
    parameters = {**artifact.parameters, **description.parameters}
    options = EngineOptions(1, files, parameters)
    model = next(path for path, role in artifact.files.items() if role == "model")
    session = load_session(artifact.engine, files[model], options)
    try:
        arrays = [_case(session, case) for case in description.golden]
    finally:
        session.close()
    return archived({key: array for case in arrays for key, array in case.items()})


def _case(session: Session, case: GoldenInput) -> dict[str, np.ndarray]:
    outputs = session.run(case.tensors)
    kept = case.outputs or tuple(outputs)
    return {
        **{f"{case.name}/in/{name}": array for name, array in case.tensors.items()},
        **{f"{case.name}/out/{name}": outputs[name] for name in kept},
    }


def _put_in_place(half_made: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old")
    with storage(out):
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        half_made.rename(out)
        sync_directory(out.parent)
    shutil.rmtree(old, ignore_errors=True)
