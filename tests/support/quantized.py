"""Packages made by the command `edge-quantize`, and the daemon's answers to be held against them."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.support.device import ROOT, Device


def edge_quantize(package: Path, family: str, *arguments: object) -> Path:
    """Run the command as a process of its own; the package's directory is returned."""
    command = [sys.executable, "-m", "tools.quantize", family, *map(str, arguments)]
    options = ["--out", package, "--name", package.name, "--rounds", "2"]
    work = ["--work", package.parent / "work"]
    done = subprocess.run(
        [*command, *options, *work], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return package


def golden(package: Path) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Inputs and outputs of a package's golden cases."""
    cases: dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = {}
    with np.load(package / "golden.npz", allow_pickle=False) as arrays:
        for key, array in arrays.items():
            case, kind, name = key.split("/", 2)
            cases.setdefault(case, ({}, {}))[kind == "out"][name] = array
    return list(cases.values())


def infer(
    device: Device, model: str, tensors: Mapping[str, np.ndarray], dtypes: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Ask the daemon over its socket, by the Open Inference Protocol."""
    inputs = [
        {
            "name": name,
            "datatype": dtypes[name],
            "shape": list(array.shape),
            "data": array.ravel().tolist(),
        }
        for name, array in tensors.items()
    ]
    answer = device.post(f"/v2/models/{model}/infer", json.dumps({"inputs": inputs}).encode())
    assert answer.status == 200, answer.body
    return {
        found["name"]: np.reshape(found["data"], found["shape"]) for found in answer.json["outputs"]
    }


def answers_its_golden_cases(device: Device, package: Path) -> None:
    """Assert that the daemon computes what the package says that the model computes."""
    from agent.trust.manifest import parse_manifest

    manifest = parse_manifest((package / "model.toml").read_bytes())
    dtypes = {spec.name: spec.dtype for spec in manifest.inputs}
    tolerances = {case.name: case.tolerance for case in manifest.golden}
    found = golden(package)
    assert found
    for (inputs, outputs), tolerance in zip(found, tolerances.values(), strict=True):
        answers = infer(device, package.name, inputs, dtypes)
        for name, array in outputs.items():
            assert np.abs(answers[name].astype(float) - array).max() <= tolerance
