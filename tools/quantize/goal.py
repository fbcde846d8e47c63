"""What a person asks for beside the model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import BadRequest
from tools.quantize.auto import Limit
from tools.quantize.measure import ROUNDS
from tools.quantize.package import Identity

LINE = 200  # characters of a manifest's line


@dataclass(frozen=True, slots=True)
class Goal:
    """The common options.

    Attributes:
        out: the package's directory; None builds and reports without packaging.
        name: of the package; empty takes the source's.
        version: of the package.
        license: of the model, an SPDX expression.
        summary: one line.
        evaluate: the evaluation set; None where the family has one of its own.
        max_drop: the largest loss on the whole set.
        max_slice_drop: the largest loss on any slice.
        auto: try the recipes in order of size and keep the smallest that passes.
        recipe: the one to build; empty takes the family's first.
        report: directory for the JSON and HTML reports; None prints only.
        work: where long steps are kept.
        fresh: forget what an earlier run has kept.
        rounds: turns in which each model is timed.
    """

    out: Path | None
    name: str = ""
    version: str = "1.0.0"
    license: str = "NOASSERTION"
    summary: str = ""
    evaluate: Path | None = None
    max_drop: Limit | None = None
    max_slice_drop: Limit | None = None
    auto: bool = False
    recipe: str = ""
    report: Path | None = None
    work: Path = Path("edge-quantize-work")
    fresh: bool = False
    rounds: int = ROUNDS

    def identity(self, source: str, made: str = "") -> Identity:
        """The package's identity; name and summary say what it was made of where none was given."""
        said = self.summary or ": ".join(filter(None, [Path(source).name, made]))
        return Identity(self.name or slug(source), self.version, self.license, said[:LINE])


def slug(source: str) -> str:
    """A package name from a file's or folder's name: ``Kws_Ref.v2.onnx`` -> ``kws-ref-v2``."""
    stem = re.sub(r"\.(onnx|tflite|safetensors|gguf)\Z", "", Path(source).name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:63] or "model"


def no_recipe(name: str, names: Sequence[str]) -> BadRequest:
    """What is said of a recipe that a family does not have."""
    hint = f"The recipes are: {', '.join(names)}"
    return BadRequest(f'there is no recipe "{name[:60]}"', where="--recipe", hint=hint)
