"""`edge-quantize encoder`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from agent.errors import BadRequest
from agent.tasks.embedding.encoder import check_inputs, padded
from agent.tasks.embedding.tokens import Tokenizer
from agent.types import TensorSpec
from tools.quantize import folder as hugging_face
from tools.quantize import hub
from tools.quantize.encoder import modules, proof, questions
from tools.quantize.encoder.classifier import ClassifierFamily
from tools.quantize.encoder.family import SUMMARIES, EncoderFamily
from tools.quantize.encoder.pairs import pairs
from tools.quantize.goal import Goal
from tools.quantize.onnx import export, source
from tools.quantize.onnx.family import OnnxFamily, OnnxSource
from tools.quantize.progress import Display
from tools.quantize.run import prepared
from tools.quantize.subcommand import subcommand
from tools.quantize.tensors.samples import Samples

SAMPLES = 32  # texts that layers are compared on, and that are timed


@subcommand(SUMMARIES, "labelled texts for a classifier, see above")
@click.argument("source_path", metavar="SOURCE", type=click.Path(path_type=Path))
def encoder(source_path: Path, goal: Goal) -> None:
    """Quantize SOURCE, a Hugging Face folder of an encoder, and package it with its tokenizer.

    A classifier of texts is judged on --evaluate, a file with a label, a tab and a text in each line.
    """
    folder = hub.folder(source_path, goal.work)
    hugging_face.check(folder)
    labels = questions.labels_of(hugging_face.config(folder))
    settings: dict[str, Any] = {"max_tokens": modules.window(folder)}
    if labels:
        settings["labels"] = labels
        asked = questions.read(goal.evaluate, labels)
    elif goal.evaluate:
        message = "only a classifier is judged on texts of yours; this one gives vectors"
        raise BadRequest(message, where="--evaluate")
    else:
        settings |= modules.pooling(folder)

    @contextmanager
    def family(display: Display) -> Iterator[EncoderFamily]:
        with display.step("Proving the tokenizer"):
            tokenizer, notes = proof.check(folder, settings["max_tokens"])
        with export.from_transformers(folder, goal.work, display) as path:
            texts = samples(tokenizer, source.specs(path))
            graph = OnnxFamily(OnnxSource(path, texts, texts, task="embedding"))
            if labels:
                data = f"{len(asked)} labelled texts of {goal.evaluate}"
                yield ClassifierFamily(graph, tokenizer, settings, asked, data, notes=notes)
            else:
                yield EncoderFamily(graph, tokenizer, settings, notes=notes)

    prepared(family, goal, str(source_path), "encoder")


def samples(tokenizer: bytes, inputs: Sequence[TensorSpec]) -> Samples:
    """Sentences as the graph takes them. Raises BadModel: it takes what no encoder is given."""
    check_inputs(inputs)
    ids = Tokenizer(tokenizer, modules.MAX_TOKENS).ids([pair.first for pair in pairs(SAMPLES)])
    arrays, _ = padded(ids, inputs)
    return Samples(arrays, about="generated sentences")
