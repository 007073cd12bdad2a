"""How a reload reads its files: in a thread of its own, and never in two."""

import threading

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.app.appliance import App
from edge.app.loaded import Loaded
from edge.app.reloading import LOAD_S, Reloading
from edge.redaction import Redactor
from edge.supervise.reload import ReloadOptions, Verdict
from tests.support.memory_workshop import quiet_config

PLAN = ReloadOptions(plan=True)
LOADED = Loaded(config=quiet_config(), source="test.toml")


class HangingFile:
    """A config on a mount that does not answer until it `is_back`."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.is_back = threading.Event()
        self.n_loads = 0

    def load(self) -> Loaded:
        self.n_loads += 1
        self.has_begun.set()
        self.is_back.wait()
        return LOADED


def problems(verdict: Verdict) -> list[str]:
    return [problem.text for problem in verdict.problems]


async def test_a_load_that_hangs_costs_one_thread_and_none_of_those_for_everybody(
    mock_clock: MockClock,
) -> None:
    file = HangingFile()
    reloading = Reloading(App(LOADED, redactor=Redactor()), file.load)
    found: list[Verdict] = []

    async def apply() -> None:
        found.append(await reloading.apply(PLAN))

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(apply)
            await trio.to_thread.run_sync(file.has_begun.wait)
            mock_clock.jump(LOAD_S)
        assert problems(found[0]) == ["its files could not be read within 30 s"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(apply)
            await wait_all_tasks_blocked()
            assert len(found) == 2, "it waits as well"
        assert found[1].result == "refused"
        assert problems(found[1]) == [
            "the reload before this one still waits for its files; is a mount not answering?"
        ]
        assert file.n_loads == 1
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    finally:
        file.is_back.set()
    while (verdict := await reloading.apply(PLAN)).result == "refused":  # until the thread has ended
        await trio.lowlevel.checkpoint()
    assert verdict.result == "planned"
