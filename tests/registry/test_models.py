"""Loaded models: each once, the active one by default, never a moment without."""

import asyncio

import numpy as np
import pytest

from agent.errors import Altered, NotFound, NotReady
from agent.registry import Models
from agent.types import ModelRef
from tests.registry.test_registry import V1, spoil
from tests.support.fleet import Fleet


async def test_a_model_is_loaded_once_however_many_ask(fleet: Fleet) -> None:
    fleet.publish()
    fleet.install()
    models = Models(fleet.registry)
    assert models.peek("negator") is None
    assert [status.state for status in models.index()] == ["UNAVAILABLE"]
    found = await asyncio.gather(*(models.get("negator") for _ in range(20)))
    assert len(set(map(id, found))) == 1
    assert models.peek("negator") is found[0] is models.peek("negator", "1.0.0")
    assert [status.state for status in models.index()] == ["READY"]
    assert 0 < found[0].typical_s < 10
    x = np.ones((2, 5), np.float32)
    np.testing.assert_array_equal(found[0].run({"x": x})["y"], -x)
    await models.close()


async def test_what_is_not_installed_is_not_found(fleet: Fleet) -> None:
    models = Models(fleet.registry)
    with pytest.raises(NotFound):
        await models.get("negator")
    with pytest.raises(NotFound):
        await models.get("negator", "1.0.0")


async def test_an_update_by_another_process_is_taken_in(fleet: Fleet) -> None:
    fleet.publish("1.0.0")
    fleet.install()
    models = Models(fleet.registry)
    await models.get("negator")
    fleet.publish("1.1.0")
    fleet.restarted().install(fleet.address, "negator")
    assert [ref.version for ref in await models.refresh()] == ["1.1.0"]
    new = models.peek("negator")
    assert new is not None
    assert new.ref.version == "1.1.0"
    assert models.peek("negator", "1.0.0") is None
    assert await models.refresh() == []
    await models.close()


async def test_who_holds_an_old_version_may_go_on_with_it(fleet: Fleet) -> None:
    fleet.publish("1.0.0")
    fleet.install()
    models = Models(fleet.registry)
    old = await models.get("negator")
    fleet.publish("1.1.0")
    fleet.install()
    x = {"x": np.ones((1, 5), np.float32)}
    with old.hold():
        await models.refresh()
        await asyncio.sleep(0.05)
        assert old.run(x)
    while True:  # and when nobody does any more, it goes
        try:
            old.run(x)
        except NotReady:
            break
        await asyncio.sleep(0.001)
    await models.close()


async def test_a_version_that_cannot_be_loaded_leaves_the_old_one_answering(fleet: Fleet) -> None:
    fleet.publish("1.0.0")
    fleet.install()
    models = Models(fleet.registry)
    old = await models.get("negator")
    fleet.publish("1.1.0")
    fleet.install()
    fleet.registry.remove(V1)
    (ref,) = [model.ref for model in fleet.registry.list()]
    spoil(fleet, ref, "model.onnx")
    assert await models.refresh() == []
    assert models.peek("negator") is old
    assert old.run({"x": np.ones((1, 5), np.float32)})
    (status,) = models.index()
    assert status.state == "UNAVAILABLE"
    assert "not what was signed" in status.reason
    await models.close()


async def test_a_damaged_model_says_why_it_is_unavailable(fleet: Fleet) -> None:
    fleet.publish()
    fleet.install()
    spoil(fleet, V1, "model.onnx")
    models = Models(fleet.registry)
    with pytest.raises(Altered):
        await models.get("negator")
    assert "not what was signed" in models.index()[0].reason


async def test_a_damaged_version_that_gave_way_is_reported(fleet: Fleet) -> None:
    for version in ("1.0.0", "1.1.0"):
        fleet.publish(version)
        fleet.install()
    spoil(fleet, ModelRef("negator", "1.1.0"), "model.onnx")
    models = Models(fleet.registry)
    first, again = await models.get("negator"), await models.get("negator")
    assert first is again is models.peek("negator")
    assert {s.version: (s.state, s.reason) for s in models.index()} == {
        "1.0.0": ("READY", ""),
        "1.1.0": ("UNAVAILABLE", "damaged on the disk, so that 1.0.0 answers"),
    }
    await models.close()


async def test_closing_ends_every_session(fleet: Fleet) -> None:
    fleet.publish()
    fleet.install()
    models = Models(fleet.registry)
    model = await models.get("negator")
    await models.close()
    await models.close()
    assert models.peek("negator") is None
    with pytest.raises(NotReady):
        model.run({"x": np.ones((1, 5), np.float32)})
