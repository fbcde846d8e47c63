"""`embed` and `classify` as a user runs them, on signed models of a real daemon."""

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import httpx2
import numpy as np
import openai
import pytest
from click.testing import CliRunner, Result

from agent.cli import cli
from agent.errors import AgentError, BadPayload, BadRequest
from tests.support import tiny_encoder
from tests.support.device import ROOT, Device, device, install_models

Run = Callable[..., Result]

MANIFEST = """
format = 1
name = "encoder"
version = "1.0.0"
task = "embedding"
engine = "onnx"
license = "Apache-2.0"
files = [
    {{ path = "model.onnx", role = "model", sha256 = "{model}", size = {model_size} }},
    {{ path = "tokenizer.json", role = "data", sha256 = "{tokenizer}", size = {tokenizer_size} }},
    {{ path = "golden.npz", role = "golden", sha256 = "{golden}", size = {golden_size} }},
]
inputs = [
    {{ name = "input_ids", dtype = "INT64", shape = [-1, -1] }},
    {{ name = "attention_mask", dtype = "INT64", shape = [-1, -1] }},
]
outputs = [{{ name = "last_hidden_state", dtype = "FP32", shape = [-1, -1, 4] }}]
resources = {{ memory_mib = 8, threads = 1 }}
golden = [{{ name = "pump", file = "golden.npz", tolerance = 0.001 }}]
"""


def encoder(place: Path) -> Path:
    """A package of the tiny encoder."""
    place.mkdir(parents=True)
    ids = np.array([[2, 6, 3]])
    golden = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    np.savez(
        place / "golden.npz",
        **{f"pump/in/{name}": array for name, array in golden.items()},
        **{"pump/out/last_hidden_state": tiny_encoder.TABLE[ids]},
    )
    (place / "model.onnx").write_bytes(tiny_encoder.model())
    (place / "tokenizer.json").write_bytes(tiny_encoder.tokenizer())
    told: dict[str, object] = {}
    for name in ("model.onnx", "tokenizer.json", "golden.npz"):
        data = (place / name).read_bytes()
        key = name.partition(".")[0]
        told |= {key: sha256(data).hexdigest(), f"{key}_size": len(data)}
    (place / "model.toml").write_text(MANIFEST.format(**told))
    return place


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    place = tmp_path_factory.mktemp("t")
    packages = [ROOT / "models" / "intent", encoder(place / "encoder")]
    with device(place / "d", "", install_models(place / "m", packages)) as found:
        yield found.start()


@pytest.fixture
def run(daemon: Device, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command inside this process, in the device's directory."""
    monkeypatch.chdir(daemon.directory)

    def call(*words: str, stdin: str = "") -> Result:
        done = CliRunner().invoke(cli, [*words, "--socket", "agent.sock"], input=stdin)
        if done.exception is not None and not isinstance(done.exception, AgentError):
            raise done.exception
        return done

    return call


def test_questions_get_their_intents_and_strange_ones_none(run: Run) -> None:
    asked = ["Where is the toilet?", "what is the wifi password", "SELECT name FROM users"]
    answer = json.loads(run("classify", "intent", *asked, "--json").stdout)
    assert [each["label"] for each in answer["results"]] == ["toilets", "wifi", None]
    shown = run("classify", "intent", *asked).stdout.splitlines()
    assert shown[0].startswith("toilets")
    assert shown[2].startswith("(out of scope)")


def test_standard_input_has_a_question_on_each_line_and_may_have_many(run: Run) -> None:
    lines = "where is the toilet\n\n" + "do you have wifi\n" * 300
    answer = json.loads(run("classify", "intent", "--json", "--top", "1", stdin=lines).stdout)
    labels = [each["label"] for each in answer["results"]]
    assert labels == ["toilets", *["wifi"] * 300]


def test_without_a_text_or_with_another_kind_of_model_it_says_so(run: Run) -> None:
    assert isinstance(run("classify", "intent").exception, BadPayload)
    assert isinstance(run("classify", "encoder", "hello").exception, BadRequest)
    assert isinstance(run("embed", "intent", "hello").exception, BadRequest)


def test_texts_become_vectors_as_arguments_or_lines(run: Run) -> None:
    given = json.loads(run("embed", "encoder", "hello", "pump leaks", "--json").stdout)
    lines = json.loads(run("embed", "encoder", "--json", stdin="hello\npump leaks\n").stdout)
    assert given == lines
    wanted = [tiny_encoder.vector("hello"), tiny_encoder.vector("pump", "leaks")]
    np.testing.assert_allclose(given["vectors"], wanted, atol=1e-6)
    assert run("embed", "encoder", "hello").stdout.startswith("+1.000")


def test_the_official_client_gets_vectors_from_the_daemon(daemon: Device) -> None:
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(daemon.socket))) as http:
        client = openai.OpenAI(api_key="none", base_url="http://agent/v1", http_client=http)
        made = client.embeddings.create(model="encoder", input=["pump"])
    np.testing.assert_allclose(made.data[0].embedding, tiny_encoder.vector("pump"), atol=1e-6)
