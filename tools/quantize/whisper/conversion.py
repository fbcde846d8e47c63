"""From a Hugging Face folder to CTranslate2, and the recipes that differ in how weights are stored."""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.errors import BadModel, EngineMissing
from tools.quantize.family import CLEAN_DB, Artifact, LayerError, Progress, Recipe, Role
from tools.quantize.whisper.source import PREPROCESSOR, TOKENIZER

FILES: dict[str, Role] = {
    "model.bin": "model",
    "config.json": "data",
    TOKENIZER: "data",
    "vocabulary.json": "data",
    PREPROCESSOR: "data",
}
LAYERS = "layers.json"  # beside the files, not of the package


@dataclass(frozen=True, slots=True)
class Stored:
    """A recipe: all weights stored in one of CTranslate2's types.

    Attributes:
        folder: the source.
        language: of the manifest.
        kind: the type; CTranslate2's names.
        summary: one line.
    """

    folder: Path
    language: str
    kind: str
    summary: str

    @property
    def name(self) -> str:
        return self.kind.replace("_", "-")

    def build(self, original: Artifact, directory: Path, progress: Progress) -> Artifact:
        del original  # conversion begins with the weights as they were given
        made = converted(self.folder, directory, self.kind, self.language, progress)
        layers = rounded(self.folder) if self.kind.startswith("int8") else []
        (directory / LAYERS).write_bytes(msgspec.json.encode(layers))
        return made

    def sparing(self, layers: Sequence[LayerError]) -> Recipe | None:
        del layers  # CTranslate2 stores all matrices alike
        return None


def recipes(folder: Path, language: str) -> list[Stored]:
    """The one to take by default first."""
    said = {
        "int8": "matrices in int8, a scale for each row; the rest in float32",
        "int8_float16": "matrices in int8, a scale for each row; the rest stored in float16",
        "float16": "stored in float16, computed in float32",
    }
    return [Stored(folder, language, kind, text) for kind, text in said.items()]


def converted(
    folder: Path, directory: Path, kind: str, language: str, progress: Progress
) -> Artifact:
    """The model as CTranslate2's files in an empty directory.

    Raises:
        BadModel: transformers cannot read it, or CTranslate2 cannot convert it.
        EngineMissing: a library is not installed.
    """
    progress("Converting", 0.1)
    with libraries(), _quiet():
        from ctranslate2.converters import TransformersConverter

        converter = TransformersConverter(str(folder), copy_files=[TOKENIZER, PREPROCESSOR])
        try:
            converter.convert(str(directory), quantization=kind, force=True)
        except (ValueError, RuntimeError, KeyError, NotImplementedError, OSError) as error:
            raise BadModel(f"cannot be converted: {error}", where=str(folder)) from error
    return Artifact(directory, FILES, "whisper", {"language": language})


def rounded(folder: Path) -> list[LayerError]:
    """Each matrix's weights against themselves in int8, a scale for each row, worst first."""
    import numpy as np
    from safetensors import safe_open

    found = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), "pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                if len(file.get_slice(name).get_shape()) != 2 or "embed_positions" in name:
                    continue
                matrix = file.get_tensor(name).float().numpy()
                step = np.abs(matrix).max(axis=1, keepdims=True) / 127
                noise = matrix - np.round(matrix / np.where(step, step, 1)) * step
                power = float(np.square(noise).sum())
                ratio = float(np.square(matrix).sum()) / power if power else 0.0
                decibels = 10 * np.log10(ratio) if ratio else CLEAN_DB
                kind = "Embedding" if "embed" in name else "Linear"
                found.append(LayerError(name, kind, float(decibels), float(decibels)))
    return sorted(found, key=lambda layer: layer.sqnr_db)


@contextlib.contextmanager
def libraries() -> Iterator[None]:
    """A library that is not installed, in our words."""
    try:
        yield
    except ImportError as error:
        hint = "Run: pip install 'edge-agent[workstation]'"
        raise EngineMissing(f"a library is missing: {error.name}", hint=hint) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the network, and without the libraries' chatter; their errors are raised."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
