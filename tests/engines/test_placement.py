"""Which models run apart from the daemon."""

from typing import Any

import pytest

from agent.engines.placement import HEAVY_FILE_MIB, HEAVY_MEMORY_MIB, Place, Policy, Traits, place


def model(**changes: Any) -> Traits:
    fields = {"name": "m", "task": "tensor", "engine": "onnx", "file_mib": 1.0}
    return Traits(**{**fields, "memory_mib": 64, "parameters": {}, **changes})


@pytest.mark.parametrize(
    ("traits", "expected"),
    [
        (model(), "inline"),
        (model(task="anomaly"), "inline"),
        (model(task="text-generation"), "worker"),
        (model(task="speech-recognition"), "worker"),
        (model(engine="genai"), "worker"),
        (model(file_mib=HEAVY_FILE_MIB - 0.01), "inline"),
        (model(file_mib=HEAVY_FILE_MIB), "worker"),
        (model(memory_mib=HEAVY_MEMORY_MIB - 1), "inline"),
        (model(memory_mib=HEAVY_MEMORY_MIB), "worker"),
        (model(parameters={"isolated": True}), "worker"),
        (model(parameters={"isolated": "yes"}), "inline"),
    ],
)
def test_each_model_is_judged(traits: Traits, expected: Place) -> None:
    assert place(traits, Policy()) == expected


def test_the_operator_has_the_last_word() -> None:
    heavy, light = model(engine="genai", name="heavy"), model(name="light")
    assert place(heavy, Policy("never")) == "inline"
    assert place(light, Policy("always")) == "worker"
    for isolation in ("auto", "never"):
        assert place(light, Policy(isolation, ("light",))) == "worker"
    assert place(model(parameters={"isolated": True}), Policy("never")) == "inline"
