"""The file that `edge-agent init` writes: it runs as it is, and says every key with its default."""

import dataclasses
import re

import pytest

from agent.config.read import parse
from agent.config.settings import Config
from agent.config.template import describe, literal, starter


def test_the_starter_is_a_configuration() -> None:
    config = parse(starter(device_id="gateway-7", broker="mqtts://cloud:8883"))
    assert config.device.id == "gateway-7"
    assert config.sync
    assert config.sync.brokers == ("mqtts://cloud:8883",)
    assert [spec.model for spec in config.pipeline] == ["pump-anomaly"]


def test_without_a_broker_there_is_no_link() -> None:
    assert parse(starter()).sync is None


def test_every_key_written_is_known_and_shows_its_default() -> None:
    text = re.sub(r"^#(?=[a-z_]+ = |\[)", "", starter(), flags=re.MULTILINE)
    config = parse(text)
    plain = parse(starter())
    for section in ("daemon", "outbox", "pipelines"):
        assert getattr(config, section) == getattr(plain, section)
    assert config.sync is not None
    assert config.source


def test_every_setting_has_a_sentence() -> None:
    for item in dataclasses.fields(parse(starter(broker="mqtt://b"))):
        value = getattr(parse(starter(broker="mqtt://b")), item.name)
        for settings in value if isinstance(value, tuple) else (value,):
            names = {f.name for f in dataclasses.fields(settings)}
            assert names == set(describe(type(settings))), type(settings).__name__
    assert describe(Config) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (1.5, "1.5"),
        ('a"\\b', '"a\\"\\\\b"'),
        (("a", "b"), '["a", "b"]'),
        (None, '""'),
    ],
)
def test_values_are_written_as_toml_writes_them(value: object, text: str) -> None:
    assert literal(value) == text
