"""What another process activates answers here, without anybody asking for it."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from agent.registry import Models
from agent.registry.following import Following
from agent.registry.watch import Watch
from tests.support.fleet import Fleet


async def until_active(models: Models, version: str) -> None:
    async with asyncio.timeout(30):
        while (model := models.peek("negator")) is None or model.ref.version != version:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_an_activation_by_another_process_is_followed(fleet: Fleet) -> None:
    fleet.publish("1.0.0")
    fleet.install()
    models = Models(fleet.registry)
    following = Following(models, fleet.models)
    following.start()
    await models.get("negator")
    fleet.publish("1.1.0")
    await asyncio.to_thread(fleet.restarted().install, fleet.address, "negator")
    await until_active(models, "1.1.0")
    await asyncio.to_thread(fleet.restarted().rollback, "negator")
    await until_active(models, "1.0.0")
    await following.close()
    await following.close()
    await models.close()


async def test_twenty_swaps_under_load_fail_no_request(fleet: Fleet) -> None:
    for version in ("1.0.0", "1.1.0"):
        fleet.publish(version)
        fleet.install(version)
    models = Models(fleet.registry)
    following = Following(models, fleet.models)
    following.start()
    await models.get("negator")
    swapping, answered = True, 0

    async def ask() -> None:
        nonlocal answered
        while swapping:
            model = models.peek("negator") or await models.get("negator")
            width = {"1.0.0": 5, "1.1.0": 6}[model.ref.version]
            with model.hold():
                await asyncio.to_thread(model.run, {"x": np.ones((1, width), np.float32)})
            answered += 1

    clients = [asyncio.create_task(ask()) for _ in range(3)]
    for number in range(20):
        version = ("1.0.0", "1.1.0")[number % 2]
        await asyncio.to_thread(fleet.restarted().rollback, "negator")
        await until_active(models, version)
    swapping = False
    await asyncio.gather(*clients)
    assert answered > 20
    assert [model.ref.version for model in models.loaded()] == ["1.1.0"]
    await following.close()
    await models.close()


def test_only_what_is_of_interest_is_noticed(tmp_path: Path) -> None:
    watch = Watch(tmp_path, lambda name: name == "state.json")
    try:
        (tmp_path / "new").write_text("1")
        assert not watch.changed()
        (tmp_path / "new").rename(tmp_path / "another")
        assert not watch.changed()
        (tmp_path / "another").rename(tmp_path / "state.json")
        assert watch.changed()
        assert not watch.changed()
    finally:
        watch.close()


def test_what_is_no_directory_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Watch(tmp_path / "missing", lambda _: True)
