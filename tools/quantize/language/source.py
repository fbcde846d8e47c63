"""From what a person has to a folder that the model builder reads, and from there to a float graph."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import BadModel
from tools.quantize import folder as hugging_face
from tools.quantize import pickles
from tools.quantize.family import Progress
from tools.quantize.folder import TOKENIZER
from tools.quantize.language.tokenizer import mended
from tools.quantize.libraries import quiet, reading

RUNTIME_FILES = (
    "genai_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
MAGIC = b"GGUF"  # what such a file begins with


@dataclass(frozen=True, slots=True)
class Hints:
    """What a GGUF file says of its tokenizer and its converter does not pass on."""

    pre: str = ""
    begins: bool | None = None


def check(source: Path) -> None:
    """Refuse what is not a language model, before anything is loaded.

    Raises:
        BadModel: no GGUF file, and no folder with a configuration, safetensors and a tokenizer.
    """
    if source.is_file():
        _check_gguf(source)
        return
    if not (source / hugging_face.CONFIG).is_file():
        raise BadModel("neither a GGUF file nor a folder with a config.json", where=str(source))
    hugging_face.check(source)
    if not (source / TOKENIZER).is_file():
        hint = (
            "Save its fast tokenizer beside it: AutoTokenizer.from_pretrained(...).save_pretrained"
        )
        raise BadModel(f"it has no {TOKENIZER}", where=str(source), hint=hint)


def _check_gguf(source: Path) -> None:
    pickles.refuse(source)
    with source.open("rb") as file:
        found = file.read(len(MAGIC))
    if found != MAGIC:
        why = "the file is empty" if not found else "no GGUF file"
        raise BadModel(why, where=str(source), hint="Give a GGUF file, or a Hugging Face folder")


def staged(source: Path, folder: Path, progress: Progress) -> Path:
    """A Hugging Face folder with safetensors and a tokenizer that says what it does.

    Raises:
        BadModel: a library cannot read the source.
        EngineMissing: a library is not installed.
    """
    if source.is_file():
        progress("Reading the GGUF file", 0.0)
        folder.mkdir(parents=True)
        hints = _from_gguf(source, folder)
    else:
        hints = Hints()
        hugging_face.staged(source, folder)
    path = folder / TOKENIZER
    with reading(source if source.is_file() else source / TOKENIZER):
        path.write_bytes(mended(path.read_bytes(), pre=hints.pre, begins=hints.begins))
    return folder


def built(source: Path, folder: Path, target: Path, progress: Progress) -> None:
    """The float graph of a folder, for the processor, giving the logits of the last token only.

    Args:
        source: what the user gave.
        folder: what `staged` made of it.
        target: an empty directory.
        progress: told how far it is.

    Raises:
        BadModel: the builder lacks its architecture, or cannot read it.
        EngineMissing: a library is not installed.
    """
    progress("Building the float graph", 0.2)
    with reading(source, folder), quiet():
        from onnxruntime_genai.models.builder import create_model

        try:
            create_model(
                "",
                str(folder),
                str(target),
                "fp32",
                "cpu",
                str(target / "cache"),
                prune_lm_head=True,
                hf_token="false",  # noqa: S106 (none)
                hf_remote=False,
            )
        except NotImplementedError as error:
            raise _unknown(source, folder) from error
    shutil.rmtree(target / "cache", ignore_errors=True)
    # The builder saves the tokenizer again, in its library's words.
    shutil.copyfile(folder / TOKENIZER, target / TOKENIZER)


def _unknown(source: Path, folder: Path) -> BadModel:
    names = hugging_face.config(folder).get("architectures") or ["(none is named)"]
    return BadModel(
        f"onnxruntime-genai has no architecture {names[0]}",
        where=str(source),
        hint="It has Llama, Mistral, Phi, Qwen, Gemma, SmolLM3, OLMo and others of their kind; "
        "an encoder of texts is for edge-quantize encoder",
    )


def _from_gguf(source: Path, folder: Path) -> Hints:
    with reading(source, folder), quiet():
        import gguf
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        fields = gguf.GGUFReader(source).fields
        where, name = str(source.parent), source.name
        tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
        model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        hints = Hints(
            str(_field(fields, "tokenizer.ggml.pre") or ""),
            _field(fields, "tokenizer.ggml.add_bos_token"),
        )
    (folder / "tokenizer.model").unlink(missing_ok=True)  # the whole GGUF file once more
    return hints


def _field(fields: Any, name: str) -> Any:
    found = fields.get(name)
    return None if found is None else found.contents()
