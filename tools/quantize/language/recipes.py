"""Ways to make a language model small."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from tools.quantize.family import Artifact, LayerError, Progress, Role
from tools.quantize.language import graph
from tools.quantize.language.calibration import curvatures, input_names, texts
from tools.quantize.language.source import RUNTIME_FILES
from tools.quantize.language.weights import Blocks, Floats, compensated, nearest, shifted
from tools.quantize.progress import part

LAYERS = "layers.json"
ENDS = frozenset({graph.HEAD, graph.EMBEDDING})
# Offsets there gain half a percent of perplexity, and cost time and the closest answers (ADR 0079).
UNSHIFTED = "/o_proj/MatMul"
WRITTEN, READ = (
    0.4,
    0.7,
)  # of the building, when the texts that weights are fitted to are there, and read
SPARED = 0.1  # of the matrices, each time that some are spared


@dataclass(frozen=True, slots=True)
class Weights:
    """Matrices of few bits.

    Attributes:
        name: of the recipe.
        summary: for the report.
        bits: of the matrices inside the layers.
        block: weights that share a scale.
        head: bits of the head, and of the embedding where it is the same matrix.
        head_block: weights of the head that share a scale.
        shifted: zero points are real numbers, so that a model that comes in blocks of four bits
            keeps its weights.
        fitted: by what the model reads (GPTQ), or rounded to nearest.
        centred: zero points are all in the middle.
        wide: matrices, by node, that are left at 8 bits.
    """

    name: str
    summary: str
    bits: int = 4
    block: int = 32
    head: int = 8
    head_block: int = 32
    shifted: bool = False
    fitted: bool = False
    centred: bool = False
    wide: frozenset[str] = field(default=frozenset())

    def build(self, original: Artifact, directory: Path, progress: Progress) -> Artifact:
        """The model with its matrices quantized. Raises BadModel."""
        maker = _Maker(self)
        if self.fitted:
            written = texts(original, part(progress, 0.0, WRITTEN))
            read = part(progress, WRITTEN, READ)
            progress = part(progress, READ, 1.0)
            maker.curvatures = curvatures(original.directory, written, read)
            maker.inputs = input_names(original.directory)
        graph.quantized(original.directory, directory, maker, progress)
        (directory / LAYERS).write_bytes(msgspec.json.encode(maker.errors))
        notes = [f"left at 8 bits: {', '.join(sorted(self.wide))}"] if self.wide else []
        return _packed(original, directory, notes)

    def sparing(self, layers: Sequence[LayerError]) -> "Weights | None":
        """With the next tenth of the matrices at 8 bits."""
        left = [layer.name for layer in layers if layer.name not in self.wide | ENDS]
        if self.bits == 8 or not left:
            return None
        more = left[: max(1, round(SPARED * len(layers)))]
        wide = self.wide | set(more)
        base = self.name.split("+")[0]
        return replace(self, name=f"{base}+{len(wide)}", wide=wide)


RECIPES = (
    Weights(
        "int4-shifted-head8",
        "4 bits with real zero points, as a GGUF file has them; head and embedding 8 bits",
        shifted=True,
        head_block=64,
    ),
    Weights("int4-gptq-head8", "4 bits, fitted (GPTQ); head and embedding 8 bits", fitted=True),
    Weights("int4-rtn-head8", "4 bits, rounded; head and embedding 8 bits"),
    Weights("int4-rtn-b64", "4 bits in blocks of 64, head 8 bits", block=64),
    Weights("int4-rtn", "all matrices 4 bits, rounded", head=4, centred=True),
    Weights("int8", "all matrices 8 bits, rounded", bits=8, centred=True),
)
SUMMARIES = {recipe.name: recipe.summary for recipe in RECIPES}


@dataclass
class _Maker:
    """Quantizes one matrix after the other, and notes what was lost."""

    recipe: Weights
    curvatures: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    errors: list[LayerError] = field(default_factory=list)

    def __call__(self, node: str, matrix: Floats) -> Blocks | None:
        if matrix.shape[1] % self.recipe.block:
            return None  # no whole number of blocks
        blocks = self._blocks(node, np.ascontiguousarray(matrix))
        kind = "Gather" if node == graph.EMBEDDING else "MatMul"
        self.errors.append(LayerError(node, kind, _sqnr_db(matrix, blocks.dequantized())))
        return blocks

    def _blocks(self, node: str, matrix: Floats) -> Blocks:
        recipe = self.recipe
        bits = recipe.head if node in ENDS else 8 if node in recipe.wide else recipe.bits
        curvature = self.curvatures.get(self.inputs.get(node, ""))
        if bits == 4 and curvature is not None:
            return compensated(matrix, curvature, bits=bits, block=recipe.block)
        if bits == 4 and recipe.shifted and not node.endswith(UNSHIFTED):
            return shifted(matrix, bits=bits, block=recipe.block)
        block = recipe.block if bits == 4 else self._wide_block(node, matrix.shape[1])
        return nearest(matrix, bits=bits, block=block, centred=recipe.centred or bits == 8)

    def _wide_block(self, node: str, length: int) -> int:
        """Weights of 8 bits that share a scale."""
        block = self.recipe.head_block if node in ENDS else 32
        return 32 if length % block else block


def _packed(original: Artifact, directory: Path, notes: Sequence[str]) -> Artifact:
    for name in RUNTIME_FILES:
        if (original.directory / name).exists():
            shutil.copyfile(original.directory / name, directory / name)
    made = artifact(directory)
    return replace(made, notes=[*notes, _of_float16(original, made)])


def _of_float16(original: Artifact, made: Artifact) -> str:
    """The share of the size that language models are published in; the original is float32 here."""
    data = original.directory / graph.DATA
    weights = data if data.exists() else original.model  # where they are few, they are in the graph
    share = made.size / (original.size - weights.stat().st_size / 2)
    return f"{share:.1%} of the size in float16"


def artifact(directory: Path, notes: Sequence[str] = ()) -> Artifact:
    """The files of a folder that the runtime reads."""
    files: dict[str, Role] = {"model.onnx": "model"}
    for name in (graph.DATA, *RUNTIME_FILES):
        if (directory / name).exists():
            files[name] = "data"
    return Artifact(directory, files, "genai", notes=notes)


def _sqnr_db(matrix: Floats, made: Floats) -> float:
    noise = float(np.square(matrix - made, dtype=np.float64).sum())
    signal = float(np.square(matrix, dtype=np.float64).sum())
    return 200.0 if noise == 0 or signal == 0 else float(10 * np.log10(signal / noise))
