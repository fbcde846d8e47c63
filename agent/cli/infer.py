"""`edge-agent infer`: run a model of the daemon on files, standard input or values."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from agent.api.client import Client
from agent.cli.options import emit_json, find_socket, json_option, socket_option
from agent.cli.tensors import fitted, from_wire, read_array, save, to_plain, to_text, to_wire
from agent.errors import BadPayload
from agent.types import Array

LENGTH = "Inference-Header-Content-Length"


@click.command()
@click.argument("model")
@click.option("--version", "version", default=None, help="Instead of the active version.")
@click.option(
    "--input",
    "-i",
    "inputs",
    multiple=True,
    metavar="[NAME=]SOURCE",
    help="A file (NumPy, JSON, CSV), - for standard input, or JSON such as '[1, 2.5]'. "
    "NAME may be left out for a model with one input.",
)
@click.option(
    "--output",
    "-o",
    "outputs",
    multiple=True,
    metavar="NAME[=FILE]",
    help="Only this output; written to FILE (.npy, .json, .csv, or - for JSON).",
)
@click.option("--raw", is_flag=True, help="Quantized outputs as they are stored.")
@socket_option
@json_option
def infer(
    model: str,
    version: str | None,
    inputs: Sequence[str],
    outputs: Sequence[str],
    raw: bool,
    socket_path: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Run MODEL once and show its outputs; real numbers, whatever the model is quantized to."""
    path = f"/v2/models/{quote(model)}" + (f"/versions/{quote(version)}" if version else "")
    with closing(Client(find_socket(socket_path, config_path))) as client:
        told = client.get_json(path)
        arrays = dict(_named(inputs, told))
        wanted = dict(_wanted(outputs, told))
        answers = _ask(client, path, arrays, dict.fromkeys(wanted, not raw), told)
    _show(answers, wanted, told, as_json)


def _named(inputs: Sequence[str], told: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """Each input's name and elements.

    Raises:
        BadPayload: an input is missing, unknown or given twice; the text lists what there is.
    """
    known = [spec["name"] for spec in told["inputs"]]
    seen: set[str] = set()
    for given in inputs:
        name, source = _split(given, known)
        if name in seen:
            raise BadPayload("the input is given twice", where=name)
        seen.add(name)
        yield name, read_array(source, name)
    missing = [name for name in known if name not in seen]
    if missing:
        raise BadPayload("the input is missing", where=missing[0], hint=_tensors(told["inputs"]))


def _split(given: str, known: Sequence[str]) -> tuple[str, str]:
    # A tensor's name may hold "=", so the known ones are looked for first.
    for name in known:
        if given.startswith(f"{name}="):
            return name, given[len(name) + 1 :]
    if len(known) == 1 and ("=" not in given or given.startswith("[") or Path(given).exists()):
        return known[0], given
    names = ", ".join(known)
    raise BadPayload("names no input", where=given[:80], hint=f"The inputs are: {names}")


def _wanted(outputs: Sequence[str], told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each wanted output's name and the file that it goes to; empty to print it."""
    known = [spec["name"] for spec in told["outputs"]]
    if not outputs:
        yield from ((name, "") for name in known)
    for given in outputs:
        found = next((n for n in known if given == n or given.startswith(f"{n}=")), None)
        if found is None:
            raise BadPayload("names no output", where=given[:80], hint=_tensors(told["outputs"]))
        yield found, given[len(found) + 1 :]


def _tensors(specs: Sequence[Mapping[str, Any]]) -> str:
    shown = (f"{s['name']} ({s['datatype']} {s['shape']})" for s in specs)
    return "There are: " + ", ".join(shown)


def _ask(
    client: Client,
    path: str,
    arrays: Mapping[str, Array],
    wanted: Mapping[str, bool],
    told: Mapping[str, Any],
) -> dict[str, Array]:
    """Outputs by name; those that are wanted in real numbers are, where they are quantized."""
    specs = {spec["name"]: spec for spec in told["inputs"]}
    tensors, data = [], b""
    for name, array in arrays.items():
        dtype, array_fitted = fitted(array, specs[name])
        sent = to_wire(array_fitted)
        size = {"binary_data_size": len(sent)}
        head = {"name": name, "datatype": dtype, "shape": array_fitted.shape, "parameters": size}
        tensors.append(head)
        data += sent
    quantized = {spec["name"] for spec in told["outputs"] if "quantization" in spec}
    asked = [
        {"name": n, "parameters": {"binary_data": True, "dequantize": real and n in quantized}}
        for n, real in wanted.items()
    ]
    text = json.dumps({"inputs": tensors, "outputs": asked}).encode()
    headers = {LENGTH: str(len(text)), "Content-Type": "application/octet-stream"}
    answer, found = client.exchange("POST", f"{path}/infer", text + data, headers)
    return dict(_outputs(answer, int(found.get(LENGTH) or len(answer))))


def _outputs(answer: bytes, length: int) -> Iterator[tuple[str, Array]]:
    start = length
    for tensor in json.loads(answer[:length])["outputs"]:
        end = start + tensor["parameters"]["binary_data_size"]
        name = tensor["name"]
        yield name, from_wire(answer[start:end], tensor["datatype"], tensor["shape"], name)
        start = end


def _show(
    answers: Mapping[str, Array],
    wanted: Mapping[str, str],
    told: Mapping[str, Any],
    as_json: bool,
) -> None:
    units = {spec["name"]: spec.get("unit", "") for spec in told["outputs"]}
    printed = {name: array for name, array in answers.items() if not wanted[name]}
    for name, array in answers.items():
        if wanted[name]:
            save(array, wanted[name])
    if as_json:
        emit_json({name: to_plain(array) for name, array in printed.items()})
        return
    for name, array in printed.items():
        unit = f", {units[name]}" if units[name] else ""
        click.echo(f"{name} {list(array.shape)}{unit}")
        click.echo(to_text(array))
