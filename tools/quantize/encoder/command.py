"""`edge-quantize encoder`."""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from agent.errors import BadModel
from agent.tasks.embedding.tokens import Tokenizer
from tools.quantize import hub
from tools.quantize.encoder import proof, questions
from tools.quantize.encoder.classifier import ClassifierFamily
from tools.quantize.encoder.family import EncoderFamily
from tools.quantize.encoder.pairs import pairs
from tools.quantize.goal import Goal, goal_options
from tools.quantize.onnx import export, source
from tools.quantize.onnx.family import OnnxFamily, OnnxSource
from tools.quantize.run import quantize
from tools.quantize.tensors.samples import Samples

SAMPLES = 32  # texts that layers are compared on, and that are timed
MAX_TOKENS = 256  # where the folder does not say


@click.command()
@click.argument("source_path", metavar="SOURCE", type=click.Path(path_type=Path))
@goal_options
def encoder(source_path: Path, goal: Goal) -> None:
    """Quantize SOURCE, a Hugging Face folder of an encoder, and package it with its tokenizer.

    A classifier of texts is judged on --evaluate, a file with a label, a tab and a text in each line.
    """
    folder = hub.folder(source_path, goal.work)
    if not folder.is_dir() or not hub.is_transformers(folder):
        raise BadModel("no Hugging Face folder with safetensors", where=str(source_path))
    settings = settings_of(folder)
    labels = questions.labels_of(_read(folder / "config.json"))
    asked = questions.read(goal.evaluate, labels) if labels else []
    tokenizer = proof.check(folder, settings["max_tokens"])
    with export.from_transformers(folder, goal.work) as path:
        names = [spec.name for spec in source.specs(path)]
        texts = samples(tokenizer, names)
        graph = OnnxFamily(OnnxSource(path, texts, texts, task="embedding"))
        family = EncoderFamily(graph, tokenizer, settings)
        if labels:
            said = {"labels": labels, "max_tokens": settings["max_tokens"]}
            data = f"{len(asked)} labelled texts of {goal.evaluate}"
            family = ClassifierFamily(graph, tokenizer, said, asked, data)
        quantize(family, goal, str(source_path), "encoder")


def settings_of(folder: Path) -> dict[str, Any]:
    """Pooling and window, as sentence-transformers writes them; the mean of 256 tokens otherwise."""
    pooling = _read(folder / "1_Pooling" / "config.json")
    window = _read(folder / "sentence_bert_config.json").get("max_seq_length", MAX_TOKENS)
    kind = "cls" if pooling.get("pooling_mode_cls_token") else "mean"
    return {"pooling": kind, "normalize": True, "max_tokens": int(window)}


def samples(tokenizer: bytes, names: list[str]) -> Samples:
    """Sentences as the graph takes them, padded to the longest."""
    ids = Tokenizer(tokenizer, MAX_TOKENS).ids([pair.first for pair in pairs(SAMPLES)])
    arrays = {name: np.zeros((len(ids), max(map(len, ids))), np.int64) for name in names}
    for row, tokens in enumerate(ids):
        arrays["input_ids"][row, : len(tokens)] = tokens
        arrays["attention_mask"][row, : len(tokens)] = 1
    return Samples(arrays, about="generated sentences")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadModel(f"cannot be read: {error}", where=str(path)) from error
    return found if isinstance(found, dict) else {}
