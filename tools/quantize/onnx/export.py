"""From torch to an ONNX file: a state dict with a builder, or a Hugging Face folder.

Needs the workstation extra. What was exported is kept in the work directory, a folder's under the digest
of what it was made of. A builder is code that may do anything: what it builds is exported each time, and
kept under the digest of the result.
"""

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.errors import BadModel, EngineMissing
from agent.registry.layout import storage
from tools.quantize import memory
from tools.quantize.onnx.builder import Builder, built, file_of, find_builder, place_of, said
from tools.quantize.onnx.source import MODEL, refuse_pickle
from tools.quantize.package import digest
from tools.quantize.work import EXPORT, exported

OPSET = 17  # the newest that every runtime of the fleet is sure to have
COPIES = 4  # of the weights while exporting
TORCH = 700 * 2**20  # bytes that torch itself takes


@contextmanager
def from_state_dict(weights: Path, builder: str, work: Path) -> Iterator[Path]:
    """Export a torch module with its weights; the file stays for as long as it is held.

    Args:
        weights: a safetensors file with the state dict.
        builder: ``module:function`` or ``file.py:function``; the function returns the module and an
            example input: a tensor, or a mapping of argument names to tensors. Free axis: the first.
        work: the work directory.

    Raises:
        BadModel: a pickle, no safetensors, weights that are not this module's, or a module that
            cannot be exported.
        BadRequest: there is no such builder, or it raises an error or returns something else.
        EngineMissing: torch is not installed.
    """
    refuse_pickle(weights)
    _torch()
    function = find_builder(builder)
    with storage(work):
        work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{EXPORT}-", dir=work) as half_made:
        made = Path(half_made, MODEL)
        _export(weights, function, builder, made)
        with exported(work, digest(made), MODEL, made.rename) as path:
            yield path


@contextmanager
def from_transformers(folder: Path, work: Path) -> Iterator[Path]:
    """Export a Hugging Face folder for the task that its configuration names.

    The file stays for as long as it is held. Raises as above.
    """
    files = sorted([*folder.glob("*.safetensors"), folder / "config.json"])
    made_of = [(path.name, digest(path)) for path in files]
    _refuse_larger(sum(path.stat().st_size for path in files), folder)
    with exported(work, made_of, MODEL, lambda out: _export_folder(folder, out)) as path:
        yield path


def _export(weights: Path, builder: Builder, name: str, out: Path) -> None:
    _refuse_larger(weights.stat().st_size, weights)
    module, example = built(builder, name)
    _fill(module, weights)
    try:
        _trace(module.eval(), example, out)
    except Exception as error:  # the module's own code runs here, and raises whatever it likes
        where = place_of(error, name, file_of(builder))
        raise BadModel(f"cannot be exported: {said(error)}", where=where) from error


def _trace(module: Any, example: Any, out: Path) -> None:
    torch = _torch()
    named = dict(example) if isinstance(example, Mapping) else {"input": example}
    as_keywords = isinstance(example, Mapping)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter says that it is old
        torch.onnx.export(
            module,
            () if as_keywords else (example,),
            str(out),
            kwargs=named if as_keywords else None,
            input_names=list(named),
            output_names=["output"],
            dynamic_axes={name: {0: "batch"} for name in (*named, "output")},
            opset_version=OPSET,
            dynamo=False,
        )


def _fill(module: Any, weights: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(str(weights)))
    except SafetensorError as error:
        raise BadModel(f"no safetensors: {error}", where=str(weights)) from error
    except RuntimeError as error:  # names every missing, unexpected and misshapen key
        text = " ".join(str(error).split())[:300]
        raise BadModel(
            f"not the weights of what the builder builds: {text}", where=str(weights)
        ) from error


def _export_folder(folder: Path, out: Path) -> None:
    _torch()
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from optimum.exporters.onnx import main_export
    except ImportError as error:
        raise _missing("optimum") from error
    place = out.with_name("optimum")
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            main_export(str(folder), output=place, task=_task(folder), do_validation=False)
    except (ValueError, KeyError, OSError, AttributeError) as error:
        text = " ".join(str(error).split())[:300]
        raise BadModel(f"cannot be exported: {text}", where=str(folder)) from error
    (place / MODEL).rename(out)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that the libraries give each other."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _task(folder: Path) -> str:
    """What a model is for, as optimum calls it, by the class that its configuration names."""
    import transformers
    from optimum.exporters.tasks import TasksManager

    names = json.loads((folder / "config.json").read_bytes()).get("architectures") or []
    if not names:
        raise ValueError("config.json names no architecture")
    model_class = getattr(transformers, names[0])
    return str(TasksManager.infer_task_from_model(model_class))


def _refuse_larger(size: int, source: Path) -> None:
    memory.refuse_more_than(memory.available(), COPIES * size + TORCH, str(source))


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise _missing("torch") from error
    return torch


def _missing(library: str) -> EngineMissing:
    hint = "Use the workstation's environment: make workstation"
    return EngineMissing(f"{library} is not installed", hint=hint)
