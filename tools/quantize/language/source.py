"""From what a person has to a folder that the model builder reads, and from there to a float graph."""

import contextlib
import io
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import BadModel, EngineMissing
from tools.quantize.family import Progress
from tools.quantize.language.tokenizer import mended

TOKENIZER = "tokenizer.json"
WEIGHTS = ".safetensors"
RUNTIME_FILES = (
    "genai_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


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
    if source.is_file() and source.suffix == ".gguf":
        return
    if not (source / "config.json").is_file():
        raise BadModel("neither a GGUF file nor a folder with a config.json", where=str(source))
    if not any(source.glob("*.safetensors")):
        pickles = any(source.glob("*.bin")) or any(source.glob("*.pt*"))
        why = "its weights are a pickle, which may run anything" if pickles else "it has no weights"
        raise BadModel(
            why,
            where=str(source),
            hint="Save it as safetensors: model.save_pretrained(FOLDER, safe_serialization=True)",
        )
    if not (source / TOKENIZER).is_file():
        hint = (
            "Save its fast tokenizer beside it: AutoTokenizer.from_pretrained(...).save_pretrained"
        )
        raise BadModel(f"it has no {TOKENIZER}", where=str(source), hint=hint)


def files(folder: Path) -> list[Path]:
    """What is read of a folder."""
    kinds = {WEIGHTS, ".json", ".jinja", ".txt"}
    return [file for file in sorted(folder.iterdir()) if file.suffix in kinds and file.is_file()]


def staged(source: Path, folder: Path, progress: Progress) -> Path:
    """A Hugging Face folder with safetensors and a tokenizer that says what it does."""
    folder.mkdir(parents=True)
    if source.is_file():
        progress("Reading the GGUF file", 0.0)
        hints = _from_gguf(source, folder)
    else:
        hints = Hints()
        for file in files(source):
            if file.suffix == WEIGHTS:
                (folder / file.name).symlink_to(file.resolve())
            else:
                shutil.copyfile(file, folder / file.name)
    path = folder / TOKENIZER
    path.write_bytes(mended(path.read_bytes(), pre=hints.pre, begins=hints.begins))
    return folder


def built(folder: Path, target: Path, progress: Progress) -> None:
    """The float graph of a folder, for the processor, giving the logits of the last token only."""
    progress("Building the float graph", 0.3)
    with _quiet(), _missing():
        from onnxruntime_genai.models.builder import create_model

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
    shutil.rmtree(target / "cache", ignore_errors=True)
    # The builder saves the tokenizer again, in its library's words.
    shutil.copyfile(folder / TOKENIZER, target / TOKENIZER)


def _from_gguf(source: Path, folder: Path) -> Hints:
    with _quiet(), _missing():
        import gguf
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        fields = gguf.GGUFReader(source).fields
        where, name = str(source.parent), source.name
        try:
            tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
            model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
        except (ValueError, KeyError, OSError) as error:
            raise BadModel(f"transformers cannot read it: {error}", where=str(source)) from error
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
    (folder / "tokenizer.model").unlink(missing_ok=True)  # the whole GGUF file once more
    return Hints(
        str(_field(fields, "tokenizer.ggml.pre") or ""),
        _field(fields, "tokenizer.ggml.add_bos_token"),
    )


def _field(fields: Any, name: str) -> Any:
    found = fields.get(name)
    return None if found is None else found.contents()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Libraries that print what they do, line by line, are kept quiet; their errors are raised."""
    os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _missing() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise EngineMissing(
            f"a library is missing: {error.name}", hint="Run: pip install 'edge-agent[workstation]'"
        ) from error
