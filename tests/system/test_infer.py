"""`edge-agent infer`, as a user runs it: a quantized model of a daemon, asked with real numbers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agent.cli import cli
from agent.errors import AgentError, BadRequest
from agent.types import Array
from tests.support.device import Device, device

Infer = Callable[..., Result]

SCALE_IN, SCALE_OUT = 0.041666666666666664, 0.125  # of the shipped model's manifest


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, pump_models: Path) -> Iterator[Device]:
    with device(tmp_path_factory.mktemp("infer"), models=pump_models) as found:
        yield found.start()


@pytest.fixture
def infer(daemon: Device, monkeypatch: pytest.MonkeyPatch) -> Infer:
    """Runs the command inside this process, in the device's directory."""
    monkeypatch.chdir(daemon.directory)

    def run(*arguments: str, stdin: bytes = b"") -> Result:
        words = ["infer", "pump-anomaly", "--socket", "agent.sock", *arguments]
        done = CliRunner().invoke(cli, words, input=stdin)
        if done.exception is not None and not isinstance(done.exception, AgentError):
            raise done.exception
        return done

    return run


@pytest.fixture
def window() -> Array:
    """Real numbers that the input's scale can say exactly."""
    values = np.random.default_rng(3).integers(-100, 100, (3, 32))
    return (values * SCALE_IN).astype(np.float32)


def test_the_same_window_in_every_form_gives_the_same_evidence(
    daemon: Device, infer: Infer, window: Array
) -> None:
    """A file of each kind, standard input, a value; with and without its name and its batch."""
    np.save(daemon.directory / "one.npy", window)
    np.save(daemon.directory / "batch.npy", window[np.newaxis])
    np.save(daemon.directory / "stored.npy", np.round(window / SCALE_IN).astype(np.int8))
    text = json.dumps(window.tolist())
    (daemon.directory / "window.json").write_text(text)
    lines = "\n".join(",".join(map(str, row)) for row in window.T.tolist())
    (daemon.directory / "flat.csv").write_text(
        "\n".join(",".join(map(repr, row)) for row in window.tolist()) + "\n"
    )
    (daemon.directory / "named.csv").write_text("a,b,c\n" + lines)
    sources = ["one.npy", "batch.npy", "stored.npy", "window.json", "flat.csv", "window=one.npy"]
    answers = [infer("-i", source, "--json").stdout for source in sources]
    answers.append(infer("-i", text, "--json").stdout)
    answers.append(infer("-i", "-", "--json", stdin=text.encode()).stdout)
    assert set(answers) == {answers[0]}
    (evidence,) = json.loads(answers[0])["evidence"]
    assert len(evidence) == 2
    assert all(value / SCALE_OUT == round(value / SCALE_OUT) for value in evidence)


def test_outputs_are_shown_with_shape_and_unit_and_raw_on_request(
    daemon: Device, infer: Infer, window: Array
) -> None:
    text = json.dumps(window.tolist())
    shown = infer("-i", text).stdout
    assert shown.startswith("evidence [1, 2], log-odds that machine and sensor are faulty\n[[")
    (real,) = json.loads(infer("-i", text, "--json").stdout)["evidence"]
    (raw,) = json.loads(infer("-i", text, "--json", "--raw").stdout)["evidence"]
    assert [value * SCALE_OUT for value in raw] == real


@pytest.mark.parametrize("name", ["out.npy", "out.json", "out.csv", "-"])
def test_outputs_go_into_files(daemon: Device, infer: Infer, window: Array, name: str) -> None:
    text = json.dumps(window.tolist())
    (expected,) = json.loads(infer("-i", text, "--json").stdout)["evidence"]
    done = infer("-i", text, "-o", f"evidence={name}")
    path = daemon.directory / name
    if name == "out.npy":
        written = np.load(path).tolist()
    elif name == "out.csv":
        written = [[float(cell) for cell in path.read_text().split(",")]]
    else:
        written = json.loads(done.stdout if name == "-" else path.read_text())
    assert written == [expected]


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        ((), b"", "window: the input is missing. There are: window (INT8 [-1, 3, 32])"),
        (("-i", "x=[1]"), b"", "names no input. The inputs are: window"),
        (("-i", "gone.npy"), b"", "gone.npy: there is no such file"),
        (("-i", "window=gone.npy"), b"", "gone.npy: there is no such file"),
        (("-i", "-"), b"", "is empty"),
        (("-i", "-"), b"\x93NUMPY rubbish", "not a NumPy array"),
        (("-i", "-"), b"one,two\nthree,four\n", "not numbers"),
        (("-i", "[[1,2],[3]]"), b"", "not JSON of even rows"),
        (("-i", "[1,2,3]"), b"", "takes the shape [-1, 3, 32] (-1 is free), this has [3]"),
        (("-i", '["a"]'), b"", "the model takes"),
        (("-i", "window=[1]", "-i", "window=[2]"), b"", "given twice"),
        (("-i", "[1]", "-o", "other"), b"", "names no output. There are: evidence (INT8 [-1, 2])"),
    ],
)  # fmt: skip
def test_mistakes_are_named_and_the_way_out_shown(
    infer: Infer, arguments: tuple[str, ...], stdin: bytes, words: str
) -> None:
    done = infer(*arguments, stdin=stdin)
    assert isinstance(done.exception, BadRequest)
    assert words in str(done.exception)


def test_integers_that_do_not_fit_the_type_are_refused(infer: Infer) -> None:
    done = infer("-i", json.dumps(np.full((3, 32), 300).tolist()))
    assert "300 at [0, 0, 0] does not fit int8" in str(done.exception)


def test_the_installed_command_and_its_exit_status(daemon: Device) -> None:
    values = json.dumps(np.zeros((3, 32)).tolist())
    done = daemon.run("infer", "pump-anomaly", "-i", values, "--socket", "agent.sock")
    assert done.stdout.startswith("evidence [1, 2]")
    done = daemon.run("infer", "nothing", "-i", "[1]", "--socket", "agent.sock", check=False)
    assert (done.returncode, "nothing" in done.stderr) == (2, True)
