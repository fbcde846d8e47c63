"""What `edge-quantize` packages is signed, installed and answers through the daemon."""

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from tests.support.device import ROOT, Device, device, install_models
from tests.support.quantized import answers_its_golden_cases, edge_quantize
from tests.tools.quantize.conftest import perceptron

RECIPES = ("int8-static-minmax", "int8-dynamic", "int4-weights")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("quantized")
    onnx.save_model(perceptron(), str(place / "float.onnx"))
    made = [
        edge_quantize(place / recipe, "onnx", place / "float.onnx", "--recipe", recipe)
        for recipe in RECIPES
    ]
    return [*made, ROOT / "models" / "gauge-reader"]


@pytest.fixture(scope="module")
def installed(packages: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    place = tmp_path_factory.mktemp("q")
    with device(place / "d", "", install_models(place / "m", packages)) as found:
        yield found.start()


@pytest.mark.parametrize("name", [*RECIPES, "gauge-reader"])
def test_an_onnx_package_answers_through_the_daemon(
    installed: Device, packages: list[Path], name: str
) -> None:
    answers_its_golden_cases(installed, next(path for path in packages if path.name == name))


def test_a_slim_tflite_package_answers_through_the_daemon(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "mlperf-tiny"
    made = [
        edge_quantize(
            tmp_path / name, "tflite", folder / f"{quantized}.tflite",
            "--float", folder / f"{original}.tflite",
        )
        for name, quantized, original in (
            ("ad01", "ad01_int8", "ad01_fp32"),
            ("kws", "kws_ref_model", "kws_ref_model_float32"),
        )
    ]  # fmt: skip
    with device(tmp_path / "d", "", install_models(tmp_path / "m", made)) as found:
        found.start()
        for package in made:
            answers_its_golden_cases(found, package)
