"""Which pipeline takes a stream."""

import pytest

from agent.errors import BadConfig, NotFound
from agent.pipelines.spec import PipelineLimits, PipelineSpec, pipeline_for


def spec(name: str, *streams: str) -> PipelineSpec:
    return PipelineSpec(name, "pump-anomaly", streams or ("*",))


def test_the_first_pipeline_that_fits_takes_the_stream() -> None:
    specs = [spec("pumps", "pump-*", "hall-?/pump"), spec("rest")]
    assert pipeline_for(specs, "pump-1").name == "pumps"
    assert pipeline_for(specs, "hall-2/pump").name == "pumps"
    assert pipeline_for(specs, "Pump-1").name == "rest"
    assert pipeline_for(specs, "any/levels/deep").name == "rest"


def test_a_stream_that_none_takes_is_told_what_is_taken() -> None:
    with pytest.raises(NotFound) as caught:
        pipeline_for([spec("pumps", "pump-*")], "fan")
    assert (caught.value.where, caught.value.hint) == ("fan", "Pipelines take: pump-*")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "Pump 1"),
        ("model", ""),
        ("streams", ()),
        ("streams", ("",)),
        ("summary_every_s", 0.5),
        ("summary_every_s", 90_000.0),
    ],
)
def test_wrong_values_are_refused_by_key(key: str, value: object) -> None:
    good = {"name": "a", "model": "m", "streams": ("*",)}
    with pytest.raises(BadConfig) as caught:
        PipelineSpec(**{**good, key: value})  # type: ignore[arg-type]
    assert caught.value.where == key


@pytest.mark.parametrize(
    ("key", "value"), [("streams", 0), ("streams", 1025), ("waiting_rows", 0), ("batch_rows", 0)]
)
def test_limits_have_limits(key: str, value: int) -> None:
    with pytest.raises(BadConfig) as caught:
        PipelineLimits(**{key: value})
    assert caught.value.where == key
