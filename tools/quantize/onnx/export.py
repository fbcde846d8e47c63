"""From torch to an ONNX file: a state dict with a builder, or a Hugging Face folder.

Needs the workstation extra. What was exported is kept in the work directory, a folder's under the digest
of what it was made of. A builder is code that may do anything: what it builds is exported each time, and
kept under the digest of the result.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agent.errors import BadModel
from agent.registry.layout import storage
from tools.quantize import memory, pickles
from tools.quantize.folder import CONFIG, config, header, staged, weight_files
from tools.quantize.libraries import installed, one_line, quiet, reading
from tools.quantize.onnx.builder import Builder, built, file_of, find_builder, place_of, said
from tools.quantize.onnx.source import MODEL
from tools.quantize.package import digest
from tools.quantize.progress import Display
from tools.quantize.work import EXPORT, exported

STEP = "Exporting to ONNX"
OPSET = 17  # the newest that every runtime of the fleet is sure to have
COPIES = 4  # of the weights while exporting
TORCH = 700 * 2**20  # bytes that torch itself takes

UNFIT = "cannot be exported"
TRACED = "The module must be one that torch.onnx.export can trace with the builder's example"
EXPORTED = "See that the folder is whole, and of a model and task that optimum exports"


def check(weights: Path) -> None:
    """Refuse what is no state dict. Raises BadModel: a pickle, or no whole safetensors file."""
    pickles.refuse(weights)
    header(weights)


@contextmanager
def from_state_dict(weights: Path, builder: str, work: Path, display: Display) -> Iterator[Path]:
    """Export a torch module with its weights, as a step; the file stays for as long as it is held.

    Args:
        weights: a safetensors file with the state dict.
        builder: ``module:function`` or ``file.py:function``; the function returns the module and an
            example input: a tensor, or a mapping of argument names to tensors. Free axis: the first.
        work: the work directory.
        display: shows it.

    Raises:
        BadModel: weights that are not this module's, or a module that cannot be exported.
        BadRequest: there is no such builder, or it raises an error or returns something else.
        EngineMissing: torch is not installed.
        TooLarge: it would not fit into memory.
    """
    _make_room(weights.stat().st_size, weights, display)
    with ExitStack() as held:
        with display.step(STEP) as progress, _place(work) as made:
            _torch()
            function = find_builder(builder)
            progress("Exporting", 0.1)
            _export(weights, function, builder, made)
            path = held.enter_context(exported(work, digest(made), MODEL, made.rename))
        yield path


@contextmanager
def from_transformers(folder: Path, work: Path, display: Display) -> Iterator[Path]:
    """Export a Hugging Face folder for the task that its configuration names, as a step.

    The file stays for as long as it is held.

    Raises:
        BadModel: optimum cannot export it.
        EngineMissing: a library is not installed.
        TooLarge: it would not fit into memory.
    """
    files = [*weight_files(folder), folder / CONFIG]
    _make_room(sum(path.stat().st_size for path in files), folder, display)
    with ExitStack() as held:
        with display.step(STEP) as progress:
            progress("Looking whether it was exported before", 0.0)
            made_of = [(path.name, digest(path)) for path in files]
            progress("Exporting", 0.1)
            made = exported(work, made_of, MODEL, lambda out: _export_folder(folder, out))
            path = held.enter_context(made)
        yield path


@contextmanager
def _place(work: Path) -> Iterator[Path]:
    """Where a file can be written before it is known what it is called; gone afterwards."""
    with storage(work):
        work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{EXPORT}-", dir=work) as half_made:
        yield Path(half_made, MODEL)


def _export(weights: Path, builder: Builder, name: str, out: Path) -> None:
    module, example = built(builder, name)
    _fill(module, weights)
    try:
        with reading(weights, hint=TRACED, what=UNFIT), quiet():
            _trace(module.eval(), example, out)
    except BadModel as error:  # the module's own code runs here: told by its line
        cause = error.__cause__
        if not isinstance(cause, Exception):
            raise
        where = place_of(cause, name, file_of(builder))
        raise BadModel(f"{UNFIT}: {said(cause)}", where=where, hint=error.hint) from cause


def _trace(module: Any, example: Any, out: Path) -> None:
    torch = _torch()
    named = dict(example) if isinstance(example, Mapping) else {"input": example}
    as_keywords = isinstance(example, Mapping)
    with torch.no_grad():
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
    with reading(weights):
        from safetensors.torch import load_file

        found = load_file(str(weights))
    try:
        module.load_state_dict(found)
    except RuntimeError as error:  # names every missing, unexpected and misshapen key
        message = f"not the weights of what the builder builds: {one_line(error)}"
        raise BadModel(message, where=str(weights)) from error


def _export_folder(folder: Path, out: Path) -> None:
    place = out.with_name("optimum")
    with TemporaryDirectory(dir=out.parent) as made:
        safe = staged(folder, Path(made) / "source")
        with reading(folder, safe, EXPORTED, UNFIT), quiet():
            from optimum.exporters.onnx import main_export

            main_export(str(safe), output=place, task=_task(safe), do_validation=False)
    (place / MODEL).rename(out)


def _task(folder: Path) -> str:
    """What a model is for, as optimum calls it, by the class that its configuration names."""
    import transformers
    from optimum.exporters.tasks import TasksManager

    names = config(folder).get("architectures") or []
    if not names:
        raise ValueError("config.json names no architecture")
    model_class = getattr(transformers, names[0])
    return str(TasksManager.infer_task_from_model(model_class))


def _make_room(size: int, source: Path, display: Display) -> None:
    memory.make_room(COPIES * size + TORCH, str(source), display.say, " to export it")


def _torch() -> Any:
    with installed():
        import torch
    return torch
