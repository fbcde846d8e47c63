"""The configuration file: what is wrong is said with its line, what was expected and a hint."""

from pathlib import Path

import pytest

from agent.config.read import MAX_BYTES, load, parse
from agent.config.settings import Config
from agent.errors import BadConfig


def refused(text: str, environ: dict[str, str] | None = None) -> BadConfig:
    with pytest.raises(BadConfig) as caught:
        parse(text, environ=environ)
    return caught.value


def test_an_empty_file_is_a_device_with_defaults() -> None:
    config = parse("")
    assert config.sync is None
    assert config.device.id


def test_an_unknown_key_is_refused_with_line_and_nearest_key() -> None:
    error = refused('[device]\nid = "a"\n\n[api]\nsoket = "x"\n')
    assert error.where == "edge-agent.toml:5"
    assert error.message == "api.soket: unknown key"
    assert error.hint == 'Did you mean "socket"?'


def test_an_unknown_table_is_refused() -> None:
    error = refused("[pipeline_s]\n")
    assert (error.where, error.hint) == ("edge-agent.toml:1", 'Did you mean "pipelines"?')


def test_a_wrong_type_is_refused_with_what_was_expected() -> None:
    error = refused('[sync]\nbrokers = "mqtt://a"\n')
    assert error.where == "edge-agent.toml:2"
    assert "expected a list of which each is a string" in error.message


def test_a_value_that_its_room_refuses_keeps_its_line() -> None:
    error = refused(
        '[[pipeline]]\nname = "a"\nmodel = "m"\n[[pipeline]]\nname = "B!"\nmodel = "m"\n'
    )
    assert error.where == "edge-agent.toml:5"
    assert "pipeline[2].name" in error.message


def test_two_pipelines_of_one_name_are_refused() -> None:
    twice = '[[pipeline]]\nname = "a"\nmodel = "m"\n' * 2
    assert 'a second pipeline is named "a"' in refused(twice).message


@pytest.mark.parametrize("topic", ['"a//b"', '"a/#"', '""', '"a b"'])
def test_a_prefix_that_is_no_topic_is_refused(topic: str) -> None:
    assert "topic_prefix" in refused(f"[device]\ntopic_prefix = {topic}\n").message


def test_text_that_is_no_toml_is_refused_with_its_line() -> None:
    assert "line 2" in refused("[device]\nid = \n").message


class TestEnvironment:
    """A variable overrides a key, and is itself named when it is wrong."""

    def test_overrides_the_file(self) -> None:
        config = parse('[device]\nid = "a"\n', environ={"EDGE_AGENT_DEVICE__ID": "b"})
        assert config.device.id == "b"

    def test_takes_toml_values(self) -> None:
        environ = {"EDGE_AGENT_SYNC__BROKERS": '["mqtt://a", "mqtt://b"]'}
        config = parse("", environ=environ)
        assert config.sync
        assert config.sync.brokers == ("mqtt://a", "mqtt://b")

    def test_a_wrong_value_names_the_variable(self) -> None:
        error = refused("", {"EDGE_AGENT_OUTBOX__ROWS": "many"})
        assert error.where == "environment variable EDGE_AGENT_OUTBOX__ROWS"

    def test_an_unknown_table_is_refused(self) -> None:
        error = refused("", {"EDGE_AGENT_SINC__BROKERS": "x"})
        assert error.hint == 'Did you mean "sync"?'

    def test_other_variables_are_left_alone(self) -> None:
        assert parse("", environ={"EDGE_AGENT_CONFIG": "x", "HOME": "/"}) == parse("")


class TestFile:
    """What can go wrong before a line is read."""

    def test_relative_paths_start_at_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "edge-agent.toml"
        path.write_text(
            '[device]\nstate = "state"\n[api]\nsocket = "a.sock"\n[models]\nrepository = "repo"\n'
            '[[source]]\nlink = { ca_file = "ca.pem" }\n'
        )
        config = load(path, {})
        assert config.device.state == tmp_path / "state"
        assert config.api.socket == tmp_path / "a.sock"
        assert config.models.repository == str(tmp_path / "repo")
        assert config.source[0].link.ca_file == tmp_path / "ca.pem"

    def test_a_missing_file_says_how_to_make_one(self, tmp_path: Path) -> None:
        with pytest.raises(BadConfig, match="edge-agent init"):
            load(tmp_path / "none.toml", {})

    def test_a_file_that_is_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "c.toml"
        path.write_bytes(b"\x00\xff\xfe")
        with pytest.raises(BadConfig, match="UTF-8"):
            load(path, {})

    def test_a_huge_file(self, tmp_path: Path) -> None:
        path = tmp_path / "c.toml"
        path.write_bytes(b"#" * (MAX_BYTES + 1))
        with pytest.raises(BadConfig, match="larger"):
            load(path, {})


def test_brokers_lists_the_clouds_first() -> None:
    config = parse(
        '[sync]\nbrokers = ["mqtt://c"]\n[[source]]\nlink = { brokers = ["mqtt://s"] }\n'
    )
    assert isinstance(config, Config)
    assert config.brokers() == ("mqtt://c", "mqtt://s")
