"""`embed` and `classify` as a user runs them, on signed models of a real daemon."""

import base64
import json
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256

import httpx2
import numpy as np
import openai
import pytest
from click.testing import CliRunner, Result

from agent.cli import cli
from agent.errors import AgentError, BadPayload, BadRequest
from tests.support import tiny_encoder
from tests.support.broker import free_port
from tests.support.device import ROOT, Device, device, install_models

Run = Callable[..., Result]

TOKEN = "a-token-of-at-least-thirty-two-letters"
TCP = f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    place = tmp_path_factory.mktemp("t")
    packages = [ROOT / "models" / "intent", tiny_encoder.package(place, "encoder")]
    config = f'tcp = "{TCP}"\ntokens = ["app:{sha256(TOKEN.encode()).hexdigest()}"]\n'
    with device(place / "d", config, install_models(place / "m", packages)) as found:
        yield found.start()


@pytest.fixture(params=["socket", "tcp"])
def client(daemon: Device, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    """OpenAI's client, by either way in."""
    if request.param == "tcp":
        yield openai.OpenAI(api_key=TOKEN, base_url=f"http://{TCP}/v1", max_retries=0)
        return
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(daemon.socket))) as http:
        yield openai.OpenAI(
            api_key="none", base_url="http://agent/v1", http_client=http, max_retries=0
        )


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
    asked = ["Where is the toilet?", "what is the wifi password", "Who won the match last night?"]
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


def test_the_official_client_gets_vectors_from_the_daemon(client: openai.OpenAI) -> None:
    made = client.embeddings.create(model="encoder", input=["pump", "hello world"])
    wanted = [tiny_encoder.vector("pump"), tiny_encoder.vector("hello", "world")]
    np.testing.assert_allclose([each.embedding for each in made.data], wanted, atol=1e-6)
    assert [each.index for each in made.data] == [0, 1]
    assert made.usage.prompt_tokens == made.usage.total_tokens == 7


def test_both_encodings_hold_the_same_vector(client: openai.OpenAI) -> None:
    ask = partial(client.embeddings.create, model="encoder", input="pump leaks")
    numbers = ask(encoding_format="float").data[0].embedding
    packed: object = ask(encoding_format="base64").data[0].embedding  # as it came: text
    assert isinstance(packed, str)
    unpacked = np.frombuffer(base64.b64decode(packed, validate=True), "<f4")
    np.testing.assert_array_equal(unpacked, np.array(numbers, np.float32))


def test_only_the_dimensions_that_the_model_has_are_given(client: openai.OpenAI) -> None:
    ask = partial(client.embeddings.create, model="encoder", input="pump")
    assert len(ask(dimensions=tiny_encoder.WIDTH).data[0].embedding) == tiny_encoder.WIDTH
    with pytest.raises(openai.BadRequestError, match="4 elements"):
        ask(dimensions=tiny_encoder.WIDTH - 1)


def test_token_ids_give_the_vector_of_their_text(client: openai.OpenAI) -> None:
    ask = partial(client.embeddings.create, model="encoder")
    [one] = ask(input=[2, 6, 3]).data
    several = ask(input=[[2, 6, 3], [2, 4, 5, 3]]).data
    np.testing.assert_allclose(one.embedding, tiny_encoder.vector("pump"), atol=1e-6)
    np.testing.assert_allclose(several[0].embedding, one.embedding, atol=1e-6)
    wanted = tiny_encoder.vector("hello", "world")
    np.testing.assert_allclose(several[1].embedding, wanted, atol=1e-6)


def test_a_text_beyond_the_window_is_cut_and_one_beyond_the_bound_refused(
    client: openai.OpenAI,
) -> None:
    ask = partial(client.embeddings.create, model="encoder")
    cut = ask(input="pump " * 2000)
    assert cut.usage.prompt_tokens == 256  # the window where a manifest names none
    with pytest.raises(openai.BadRequestError, match="100000 are allowed"):
        ask(input="p" * 100_001)
    with pytest.raises(openai.BadRequestError):
        ask(input=["pump"] * 2049)


def test_vectors_by_tcp_need_a_token(daemon: Device) -> None:
    ask = partial(openai.OpenAI, base_url=f"http://{TCP}/v1", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        ask(api_key="a-wrong-token").embeddings.create(model="encoder", input="pump")
