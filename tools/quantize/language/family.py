"""A language model, with what is needed to judge what is made of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from agent.engines.generation import GenerationRequest
from agent.types import TensorSpec
from tools.quantize import folder as hugging_face
from tools.quantize.family import (
    Artifact,
    Description,
    GoldenInput,
    LayerError,
    Probe,
    Progress,
    Recipe,
    Score,
)
from tools.quantize.language import fitting, graph, judged, source
from tools.quantize.language.evaluation import agreement, first_tokens, opened, perplexity
from tools.quantize.language.recipes import LAYERS, RECIPES, artifact
from tools.quantize.language.room import Shape, needed_mib
from tools.quantize.language.tokenizer import proof_texts
from tools.quantize.libraries import reading
from tools.quantize.package import digest
from tools.quantize.proof import prove
from tools.quantize.work import work_key

VERSION = 5  # of what is built here: work that was kept from another one is of no use
FIRST = "first.json"  # first tokens of the float model's answers
COPIES = 10  # of a 4-bit file in memory at the peak: a float model twice over, and its builder
RUNTIME = 2**30  # bytes that the libraries take
THREADS = 4  # for a run; a device with fewer processors uses those
TOLERANCE = 2.0  # logits differ by this between processors' ways to round
PROBED = "The pump in the yard is"


@dataclass(frozen=True, slots=True)
class LanguageSource:
    """What is quantized, and how it will be served.

    Attributes:
        path: a GGUF file, or a Hugging Face folder.
        context: tokens of the window that a device offers.
        conversations: that a device remembers.
        evaluate: JSON lines that it is judged on; None for the project's texts.
    """

    path: Path
    context: int = 2048
    conversations: int = 4
    evaluate: Path | None = None


class LanguageFamily:
    """See `tools.quantize.family.Family`."""

    comparable = True

    def __init__(self, given: LanguageSource) -> None:
        """Raises BadModel: it is no language model. BadPayload: nor an evaluation set."""
        source.check(given.path)
        self._judged = judged.read(given.evaluate)
        self._given = given

    @property
    def key(self) -> str:
        path = self._given.path
        files = [path] if path.is_file() else hugging_face.files(path)
        known = [(file.name, digest(file)) for file in files]
        return work_key("language", VERSION, known, self._judged)

    def needs_bytes(self) -> int:
        path = self._given.path
        size = path.stat().st_size if path.is_file() else hugging_face.size(path)
        return RUNTIME + (COPIES if path.is_file() else 4) * size + fitting.needed(path)

    def original(self, directory: Path, progress: Progress) -> Artifact:
        staging = directory / "staging"
        folder = source.staged(self._given.path, staging, progress)
        source.built(self._given.path, folder, directory, progress)
        _remove(staging)
        made = artifact(directory)
        session = opened(made)
        try:
            _prove(session, (directory / hugging_face.TOKENIZER).read_bytes(), self._given.path)
        finally:
            session.close()
        return made

    def recipes(self) -> Sequence[Recipe]:
        return RECIPES

    def evaluate(
        self, original: Artifact, artifact: Artifact, progress: Progress
    ) -> Sequence[Score]:
        session = opened(artifact)
        try:
            prompts, passages = self._judged.prompts, self._judged.passages
            found = first_tokens(session, prompts, progress)
            known = original.directory / FIRST
            if artifact.directory == original.directory:
                known.write_bytes(msgspec.json.encode(found))
            expected = msgspec.json.decode(known.read_bytes(), type=list[str])
            scores = perplexity(session, passages, progress)
            return [*scores, *agreement(prompts, expected, found)]
        finally:
            session.close()

    def parameters(self, original: Artifact) -> int:
        import onnx

        return graph.count(onnx.load(original.model, load_external_data=False))

    def worst_layers(self, original: Artifact, made: Artifact) -> Sequence[LayerError]:
        del original
        path = made.directory / LAYERS
        found = msgspec.json.decode(path.read_bytes(), type=list[LayerError])
        return sorted(found, key=lambda layer: layer.sqnr_db)

    def probe(self, artifact: Artifact) -> Probe:
        del artifact
        return Probe("tools.quantize.language.family:next_token", {}, "token")

    def describe(self, artifact: Artifact) -> Description:
        config = _config(artifact)
        context = min(self._given.context, int(config["model"]["context_length"]))
        conversations = self._given.conversations
        shape = Shape.of(config)
        return Description(
            task="text-generation",
            inputs=[TensorSpec("tokens", "INT32", (-1,))],
            outputs=[TensorSpec("logits", "FP32", (int(config["model"]["vocab_size"]),))],
            parameters={"context": context, "conversations": conversations},
            golden=[GoldenInput("first", {"tokens": _golden(artifact)}, TOLERANCE)],
            memory_mib=needed_mib(artifact.size, shape, context, conversations),
            threads=THREADS,
            data=self._judged.about,
            limits="Writes what is likely, not what is true; small models are often wrong.",
        )


def next_token(artifact: Artifact) -> Callable[[], object]:
    """One token after a short prompt, which is remembered."""
    session = opened(artifact)
    tokens = session.tokens(GenerationRequest(text=PROBED))
    return lambda: session.run({"tokens": tokens})


def _prove(session: Any, data: bytes, given: Path) -> None:
    with reading(given):
        from tokenizers import Tokenizer

        reference = Tokenizer.from_str(data.decode())
    prove(
        lambda text: reference.encode(text).ids,
        lambda text: session.tokens(GenerationRequest(text=text)).tolist(),
        proof_texts(data),
        f"{given}: {hugging_face.TOKENIZER}",
    )


def _golden(artifact: Artifact) -> np.ndarray:
    from tokenizers import Tokenizer

    data = (artifact.directory / hugging_face.TOKENIZER).read_text()
    return np.array(Tokenizer.from_str(data).encode(PROBED).ids, np.int32)


def _config(artifact: Artifact) -> Mapping[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(
        (artifact.directory / "genai_config.json").read_bytes()
    )
    return found


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)
