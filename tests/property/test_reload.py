"""Whatever configs follow each other, and whatever fails on the way: in force is the last good one, and only that."""

import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from edge.app.appliance import App
from edge.app.loaded import Loaded
from edge.config.diff import PartSpec
from edge.config.model import BackoffConfig, EdgeConfig, StdioServerConfig
from edge.errors import ConfigError, EdgeError, Problem
from edge.metrics import Metrics
from edge.parts.channel import Channel, Ended, Inbound
from edge.parts.upstream import Upstream
from edge.supervise.reload import ReloadOptions
from edge.supervise.slot import Slot
from edge.supervise.supervisor import Supervisor
from tests.support.memory_channel import ScriptedServer
from tests.support.memory_workshop import memory_app, quiet_config
from tests.support.scripted_part import ScriptedPart
from tests.support.upstream_rig import after

pytestmark = pytest.mark.usefixtures("quiet")


# -- the supervisor alone: parts of every kind, with a failure or a cancellation at any step

KINDS = ("admin", "upstream", "listener", "uplink")
KEYS = [(kind, name) for kind in KINDS for name in "ab"]
Key = tuple[str, str]


@dataclass(frozen=True)
class Step:
    """`wanted`: each part there shall be with its version. `fails`: the part that does not start; `hangs`: one that
    does not become ready, until the replacement is cancelled. `pause_s` until the next step."""

    wanted: dict[Key, int]
    fails: Key | None
    hangs: Key | None
    pause_s: float


steps = st.builds(
    Step,
    wanted=st.dictionaries(st.sampled_from(KEYS), st.integers(1, 3)),
    fails=st.none() | st.sampled_from(KEYS),
    hangs=st.none() | st.sampled_from(KEYS),
    pause_s=st.sampled_from([0.0, 0.5, 2.0, 30.0]),
)


class Living:
    """Which parts live, by key; `late` kinds must never live twice."""

    def __init__(self) -> None:
        self.now: Counter[tuple[Key, int, int]] = Counter()

    def of(self, key: Key) -> list[tuple[int, int]]:
        return [(version, number) for (of, version, number), n in self.now.items() if n and of == key]


class CountedPart(ScriptedPart):
    def __init__(
        self, living: Living, what: tuple[Key, int, int], start_fault: Exception | None, start_s: float
    ):
        super().__init__("x", [], start_s=start_s, start_fault=start_fault, drain_s=1)
        self._living = living
        self._what = what

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        key = self._what[0]
        assert key[0] != "uplink" or not self._living.of(key), "two of one name"
        self._living.now[self._what] += 1
        try:
            await super().run(task_status=task_status)
        finally:
            self._living.now[self._what] -= 1


@settings(max_examples=150)
@given(st.lists(steps, max_size=8))
def test_any_sequence_of_replacements_ends_like_the_last_one_that_succeeded(sequence: Sequence[Step]) -> None:
    async def scenario() -> None:
        living = Living()
        keeper = Slot("sessions", "main", lambda: ScriptedPart("keeper", [], drain_s=0), metrics=Metrics())
        supervisor = Supervisor([keeper])
        in_force: dict[Key, tuple[int, int]] = {}  # version, and the number of the step it came with
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            for number, step in enumerate(sequence):
                changed = {
                    key for key, version in step.wanted.items() if in_force.get(key, (0,))[0] != version
                }
                removed = in_force.keys() - step.wanted.keys()
                late = {key for key in changed if key[0] == "uplink"}
                beside = changed - late

                def slot_of(key: Key, number: int = number, step: Step = step) -> Slot:
                    part = CountedPart(
                        living,
                        (key, step.wanted[key], number),
                        EdgeError("does not start") if key == step.fails and key[0] != "uplink" else None,
                        1000.0 if key == step.hangs and key[0] != "uplink" else 0.0,
                    )
                    return Slot(*key, lambda: part, metrics=Metrics())

                after = {key: (step.wanted[key], number) for key in changed}
                after |= {key: in_force[key] for key in step.wanted.keys() - changed}
                is_committed = False

                def commit() -> None:
                    nonlocal is_committed
                    is_committed = True

                try:
                    with trio.move_on_after(5):
                        await supervisor.replace(
                            {key: slot_of(key) for key in changed},
                            removed=removed,
                            late=late,
                            settle=trio.lowlevel.checkpoint,
                            commit=commit,
                            drain_s=lambda kind: 3,
                        )
                except* EdgeError:
                    pass
                assert is_committed == (step.fails not in beside and step.hangs not in beside)
                if is_committed:
                    in_force = after
                await trio.sleep(step.pause_s)
                for key in KEYS:  # what is in force lives, unless it waits for its predecessor
                    assert key not in in_force or key[0] == "uplink" or in_force[key] in living.of(key)
            await trio.sleep(100)
            assert {key: living.of(key) for key in KEYS} == {
                key: [in_force[key]] if key in in_force else [] for key in KEYS
            }
            assert supervisor.draining == 0
            await supervisor.stop(10)
            assert not +living.now

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


# -- the whole appliance, over servers that are scripted


@dataclass(frozen=True)
class Toy:
    """A server as a file has it. `is_broken`: it does not come up."""

    command: str
    probe_s: float
    required: bool
    overlap: bool
    is_broken: bool

    def config(self, name: str) -> StdioServerConfig:
        return StdioServerConfig(
            name=name,
            command=(self.command, "broken" if self.is_broken else "good"),
            probe_s=self.probe_s,
            required=self.required,
            overlap=self.overlap,
            start_timeout_s=5,
            restart=BackoffConfig(first_s=1, limit_s=1),
        )


toys = st.builds(
    Toy,
    command=st.sampled_from(["first", "second"]),
    probe_s=st.sampled_from([30.0, 60.0]),
    required=st.booleans(),
    overlap=st.booleans(),
    is_broken=st.sampled_from([False, False, False, True]),
)
files = st.none() | st.dictionaries(st.sampled_from("abc"), toys)  # None: what is in it cannot be read
busy = st.sets(st.sampled_from("abc"))  # servers with a call in flight when the file changes
reloads = st.tuples(
    files, busy, st.sampled_from([ReloadOptions(), ReloadOptions(), ReloadOptions(confirm_s=4.0)])
)


Reloaded = tuple[dict[str, Toy] | None, set[str], ReloadOptions]
CALL_S = 6.0  # less than the drain


class Counted(ScriptedServer):
    """One of a kind that has a lock, unless the config says that two may live."""

    def __init__(self, spec: StdioServerConfig, alive: Counter[str]) -> None:
        super().__init__()
        self._spec = spec
        self._alive = alive
        self.answers["tools/call"] = after(CALL_S)

    @asynccontextmanager
    async def connect(self, inbound: Inbound) -> AsyncIterator[Channel]:
        if self._spec.command[1] == "broken":
            raise Ended(self._spec.name, "exited with status 1")
        self._alive[self._spec.name] += 1
        self._alive[f"{self._spec.name} overlap"] += self._spec.overlap
        if self._alive[self._spec.name] > 1 and not self._may_overlap():
            self._alive["twice"] += 1
        try:
            async with super().connect(inbound) as channel:
                yield channel
        finally:
            self._alive[self._spec.name] -= 1
            self._alive[f"{self._spec.name} overlap"] -= self._spec.overlap

    def _may_overlap(self) -> bool:
        """One of them was made to, or goes by a setting that came while it ran."""
        return self._alive[f"{self._spec.name} overlap"] > 0 or self._alive[f"{self._spec.name} may"] > 0


def listed(app: App) -> set[str]:
    view = app.gateway.view(None)
    assert view is not None
    return {tool["name"] for tool in json.loads(view.listed.page("tools/list", None, 100))["tools"]}


def config_of(file: dict[str, Toy]) -> EdgeConfig:
    return quiet_config(*(toy.config(name) for name, toy in file.items()))


def judged(
    before: dict[str, Toy], file: dict[str, Toy] | None, options: ReloadOptions, leaving: set[str]
) -> set[str]:
    """What the verdict may be. `leaving` are names of servers that still worked on calls just now, though out of
    force: one that comes again is not waited for, if they still do."""
    if file is None:
        return {"refused"}
    if file == before:
        return {"unchanged"}
    refusals = set[bool]()  # whether it is sure, of each server that is required and does not come up
    for name, toy in file.items():
        older = before.get(name)
        is_late = older is not None and not (older.overlap or toy.overlap)
        if toy.required and toy.is_broken and is_made_anew(older, toy):
            if name in leaving:
                refusals.add(False)
            elif not is_late:
                refusals.add(True)
    if True in refusals:
        return {"refused"}
    was_ready = not any(toy.required and toy.is_broken for toy in before.values())
    for name, later in file.items():
        older = before.get(name)
        is_lost = older is not None and older.required and not older.is_broken
        was_good = was_ready or (older is not None and not older.is_broken)
        if options.confirm_s and later.is_broken and (is_lost or (later.required and was_good)):
            return {"rolled back"}
    return {"reloaded", "refused"} if refusals else {"reloaded"}


def is_made_anew(older: Toy | None, toy: Toy) -> bool:
    return older is None or (older.command, older.is_broken) != (toy.command, toy.is_broken)


async def run_through(sequence: Sequence[Reloaded]) -> None:
    file: dict[str, Toy] | None = {}

    is_loading = False

    def load() -> Loaded:
        nonlocal is_loading
        is_loading = False
        if file is None:
            raise ConfigError([Problem("", "cannot be read")])
        return Loaded(config=config_of(file), source="test.toml")

    alive: Counter[str] = Counter()

    def script(spec: PartSpec) -> ScriptedServer:
        assert isinstance(spec, StdioServerConfig)
        return Counted(spec, alive)

    calls = answered = 0

    async def call(upstream: Upstream) -> None:
        nonlocal answered
        await upstream.request("tools/call", None, timeout_s=0)
        answered += 1

    async def hold_time() -> None:
        """The clock must not jump because a thread reads the file."""
        while is_loading:
            await trio.lowlevel.checkpoint()

    app = memory_app(config_of({}), load, script)
    in_force: dict[str, Toy] = {}
    is_up = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.run, lambda app: is_up.set())
        await is_up.wait()
        for file, busy, options in sequence:
            before = dict(app.upstreams)
            if options.confirm_s:
                await trio.sleep(2 * CALL_S)  # servers would have to finish their calls first
            else:
                for name in busy & {name for name, one in before.items() if one.is_ready}:
                    calls += 1
                    nursery.start_soon(call, before[name])
            leaving = {name for name in "abc" if app.supervisor.is_leaving(("upstream", name))}
            expected = judged(in_force, file, options, leaving)
            for name in "abc":
                versions = (in_force.get(name), (file or {}).get(name))
                alive[f"{name} may"] = int(any(one is not None and one.overlap for one in versions))
            is_loading = True
            nursery.start_soon(hold_time)
            verdict = await app.reloads.ask(options)
            assert verdict.result in expected, verdict
            kept = (
                before.keys() if file is None or verdict.result == "refused" else before.keys() & file.keys()
            )
            for name in kept:
                if verdict.result in ("unchanged", "refused") or (
                    file is not None and not is_made_anew(in_force.get(name), file[name])
                ):
                    assert app.upstreams[name] is before[name]
            if verdict.result == "reloaded" and file is not None:
                in_force = file
            expect_in_force(app, in_force)
        await trio.sleep(30)
        expect_in_force(app, in_force)
        assert app.supervisor.draining == 0
        assert answered == calls
        good = {name for name, toy in in_force.items() if not toy.is_broken}
        assert {name for name, one in app.upstreams.items() if one.is_ready} == good
        assert listed(app) == {f"{name}__echo" for name in good}
        assert {name for name in "abc" if alive[name]} == good
        assert not alive["twice"], "two of one that has a lock"
        signal.raise_signal(signal.SIGTERM)
    assert not any(n for what, n in alive.items() if not what.endswith(" may"))


def expect_in_force(app: App, file: dict[str, Toy]) -> None:
    assert {name: one.config for name, one in app.upstreams.items()} == {
        name: toy.config(name) for name, toy in file.items()
    }
    assert app.loaded.config == config_of(file)
    assert {key for key in app.health.statuses if key.startswith("server:")} == {
        f"server:{name}" for name in file
    }
    assert app.metrics.servers.keys() == file.keys()
    for name, toy in file.items():
        assert app.health.statuses[f"server:{name}"] is app.upstreams[name].status
        assert app.upstreams[name].status.required == toy.required
        assert app.metrics.servers[name] is app.upstreams[name].metrics


PLAIN = Toy("first", 30.0, required=False, overlap=False, is_broken=False)
COMES_AGAIN: list[Reloaded] = [
    ({"a": PLAIN}, set(), ReloadOptions()),
    ({}, set(), ReloadOptions(confirm_s=4.0)),
    ({"a": PLAIN}, set(), ReloadOptions(confirm_s=4.0)),
    ({}, {"a"}, ReloadOptions()),
    ({"a": PLAIN}, set(), ReloadOptions()),
]


OVERLAPPING = Toy("first", 30.0, required=False, overlap=True, is_broken=False)
LEARNS_TO_OVERLAP: list[Reloaded] = [
    ({"a": PLAIN}, set(), ReloadOptions()),
    ({"a": OVERLAPPING}, {"a"}, ReloadOptions()),  # the one that runs goes by it from now on
    ({"a": Toy("second", 30.0, required=False, overlap=False, is_broken=False)}, set(), ReloadOptions()),
]


@settings(max_examples=40)
@example(COMES_AGAIN)
@example(LEARNS_TO_OVERLAP)
@given(st.lists(reloads, max_size=6))
def test_the_appliance_goes_by_the_last_good_file_and_keeps_what_did_not_change(
    sequence: list[Reloaded],
) -> None:
    trio.run(run_through, sequence, clock=MockClock(autojump_threshold=0))


def converged(*sequence: dict[str, Toy]) -> tuple[set[str], set[str]]:
    """What is listed, and what is in health, after these."""
    seen: list[tuple[set[str], set[str]]] = []

    async def scenario() -> None:
        configs = iter([config_of(file) for file in sequence])
        app = memory_app(
            config_of({}), lambda: Loaded(config=next(configs)), lambda spec: Counted(stdio(spec), Counter())
        )
        is_up = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(app.run, lambda app: is_up.set())
            await is_up.wait()
            for _ in sequence:
                await app.reloads.ask(ReloadOptions())
            await trio.sleep(30)
            seen.append((listed(app), set(app.health.statuses)))
            signal.raise_signal(signal.SIGTERM)

    trio.run(scenario, clock=MockClock(autojump_threshold=0))
    return seen[0]


def stdio(spec: PartSpec) -> StdioServerConfig:
    assert isinstance(spec, StdioServerConfig)
    return spec


good_files = st.dictionaries(
    st.sampled_from("abc"),
    toys.map(lambda toy: Toy(toy.command, toy.probe_s, toy.required, toy.overlap, False)),
)


@settings(max_examples=25)
@given(good_files, good_files)
def test_two_files_after_each_other_end_like_the_second_alone(
    first: dict[str, Toy], second: dict[str, Toy]
) -> None:
    assert converged(first, second) == converged(second)
