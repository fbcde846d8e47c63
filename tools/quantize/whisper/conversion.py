"""From a Hugging Face folder to CTranslate2, and the recipes that differ in how weights are stored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from tools.quantize.family import CLEAN_DB, Artifact, LayerError, Progress, Recipe, Role
from tools.quantize.folder import TOKENIZER, weight_files
from tools.quantize.libraries import quiet, reading
from tools.quantize.whisper.source import PREPROCESSOR

FILES: dict[str, Role] = {
    "model.bin": "model",
    "config.json": "data",
    TOKENIZER: "data",
    "vocabulary.json": "data",
    PREPROCESSOR: "data",
}
SUMMARIES = {
    "int8": "matrices in int8, a scale for each row; the rest in float32",
    "int8-float16": "matrices in int8, a scale for each row; the rest stored in float16",
    "float16": "stored in float16, computed in float32",
}
LAYERS = "layers.json"  # beside the files, not of the package


@dataclass(frozen=True, slots=True)
class Stored:
    """A recipe: all weights stored in one of CTranslate2's types.

    Attributes:
        folder: the source.
        language: of the manifest.
        name: of the type, with hyphens.
        summary: one line.
    """

    folder: Path
    language: str
    name: str
    summary: str

    @property
    def kind(self) -> str:
        """The type as CTranslate2 names it."""
        return self.name.replace("-", "_")

    def build(self, original: Artifact, directory: Path, progress: Progress) -> Artifact:
        # Conversion begins with the weights as they were given, not with the original's.
        made = converted(self.folder, directory, self.kind, self.language, progress)
        layers = rounded(self.folder) if self.kind.startswith("int8") else []
        (directory / LAYERS).write_bytes(msgspec.json.encode(layers))
        return replace(made, notes=original.notes)

    def sparing(self, layers: Sequence[LayerError]) -> Recipe | None:
        del layers  # CTranslate2 stores all matrices alike
        return None


def recipes(folder: Path, language: str) -> list[Stored]:
    """The one to take by default first."""
    return [Stored(folder, language, name, text) for name, text in SUMMARIES.items()]


def converted(
    folder: Path, directory: Path, kind: str, language: str, progress: Progress
) -> Artifact:
    """The model as CTranslate2's files in an empty directory.

    Raises:
        BadModel: transformers cannot read it, or CTranslate2 cannot convert it.
        EngineMissing: a library is not installed.
    """
    progress("Converting", 0.1)
    with reading(folder, what="cannot be converted"), quiet():
        from ctranslate2.converters import TransformersConverter

        converter = TransformersConverter(str(folder), copy_files=[TOKENIZER, PREPROCESSOR])
        converter.convert(str(directory), quantization=kind, force=True)
    return Artifact(directory, FILES, "whisper", {"language": language})


def rounded(folder: Path) -> list[LayerError]:
    """Each matrix's weights against themselves in int8, a scale for each row, worst first."""
    import numpy as np
    from safetensors import safe_open

    found = []
    for path in weight_files(folder):
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
