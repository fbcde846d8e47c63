"""The pipelines' models: tried again while one cannot be used, and not more often."""

import asyncio

import pytest

from agent.errors import AgentError, EngineMissing, NotReady
from agent.pipelines.loading import FIRST_PAUSE_S, LONGEST_PAUSE_S, Loading
from agent.pipelines.spec import PipelineSpec
from tests.fakes.clock import FakeClock
from tests.fakes.detector import FakeModels

SPEC = PipelineSpec("pumps", "pump")


class Counted(FakeModels):
    """Counts how often a model was asked for."""

    asked = 0

    async def get(self, name: str, version: str | None = None) -> object:
        self.asked += 1
        return await super().get(name, version)


def broken() -> tuple[Counted, FakeClock, Loading]:
    models, clock = Counted(errors={"pump": EngineMissing("no onnxruntime")}), FakeClock()
    return models, clock, Loading(models, clock)  # type: ignore[arg-type]


async def turn() -> None:
    """Let the task that mends go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def failure(loading: Loading) -> NotReady:
    with pytest.raises(NotReady) as caught:
        await loading.get(SPEC)
    return caught.value


async def test_a_failure_is_told_with_its_reason_and_when_to_try_again() -> None:
    _, _, loading = broken()
    error: AgentError = await failure(loading)
    assert "no onnxruntime [engine.missing]" in error.message
    assert loading.problems == {"pumps": error}
    await loading.close()


async def test_a_broken_model_is_not_loaded_for_every_reading() -> None:
    models, _, loading = broken()
    for _ in range(100):
        await failure(loading)
    assert models.asked == 1
    await loading.close()


async def test_a_model_that_is_mended_is_found_without_a_reading() -> None:
    models, clock, loading = broken()
    await loading.start([SPEC])
    models.errors.clear()
    await turn()
    clock.advance(FIRST_PAUSE_S)
    await turn()
    assert loading.problems == {}
    await loading.close()


async def test_pauses_double_up_to_their_bound() -> None:
    models, clock, loading = broken()
    pauses = []
    await loading.start([SPEC])
    for _ in range(10):
        pauses.append((await failure(loading)).retry_after_s)
        await turn()
        clock.advance(pauses[-1])
        await turn()
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert models.asked == 11
    await loading.close()


async def test_closing_ends_the_mending() -> None:
    models, clock, loading = broken()
    await loading.start([SPEC])
    await loading.close()
    await loading.close()
    clock.advance(LONGEST_PAUSE_S)
    await turn()
    assert models.asked == 1
