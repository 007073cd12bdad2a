"""Configs of every kind of part, one after the other, in a network of memory, with a failure at any step.

In force is the last good one, and only that: what is seen is what an appliance that started with it shows. What did
not change is the same object with the same link; what was refused, or cut off, has changed nothing; what was not
confirmed is taken back. A client keeps its session throughout.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.support.memory_net import MemoryNet
from tests.support.memory_site import site
from tests.support.reload_box import Box, Visitor
from tests.support.reload_files import (
    CONTROLS,
    EMPTY,
    UNKNOWN,
    Disk,
    Fault,
    File,
    Table,
    broken,
    changes,
    faults,
    files,
    hub_of,
    is_kept,
    lost_uplinks,
    owns,
    part_name,
    with_files_of,
    words_of,
)

SETTLE_S = 100.0
CONFIRM_S = 60.0

pytestmark = pytest.mark.usefixtures("quiet")

Reload = tuple[File, Fault | None, bool]
"""The last: whether it has to be confirmed."""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    return Disk(tmp_path_factory.mktemp("tls"))


async def run_through(disk: Disk, first: File, sequence: Sequence[Reload]) -> tuple[File, dict[str, object]]:
    """What is in force in the end, and what is seen of it."""
    net = MemoryNet()
    with net.calling():
        async with site(net, "box") as place:
            box = Box(place, disk, first)
            in_force = first
            async with box.running() as nursery:
                visitor = Visitor(box, nursery)
                await visitor.tools(in_force)
                # Both have seen a reload in the end, and one by an equal config does nothing.
                for file, fault, confirm in [*sequence, (None, None, False)]:
                    in_force = await one_reload(
                        box, visitor, in_force, file or in_force, fault, confirm=confirm
                    )
                await trio.sleep(SETTLE_S)
                assert box.app.supervisor.draining == 0
                seen = box.seen() | await box.answers(in_force)
                seen["tools"] = await visitor.tools(in_force)
                await visitor.leave()
    assert (net.open, net.listening) == (0, {})
    return in_force, seen


async def one_reload(
    box: Box, visitor: Visitor, in_force: File, file: File, fault: Fault | None, *, confirm: bool
) -> File:
    """What is in force after it."""
    was_listed, was_listening = await visitor.tools(in_force), visitor.is_listening
    visitor.heard.clear()
    after = await one_reload_of_parts(box, in_force, file, fault, confirm=confirm)
    if after.gateway is None or in_force.gateway is None:
        await visitor.tools(after)
        return after
    is_same = in_force.gateway.made_of == after.gateway.made_of
    assert visitor.is_listening or not is_same
    listed = await visitor.tools(after)
    if is_same and was_listening and listed != was_listed:
        assert await visitor.hears("notifications/tools/list_changed")
    return after


async def one_reload_of_parts(
    box: Box, in_force: File, file: File, fault: Fault | None, *, confirm: bool
) -> File:
    what = {} if fault is None else {fault.kind: fault.what}
    box.disk.put(file.certificate)
    before, links, listening = box.parts(), box.place.links, box.net.listening
    good, loaded_before = box.good_uplinks(), box.app.loaded
    box.workshop.fails = what.get("build")
    box.net.refused = {what["bind"]} if "bind" in what else set()
    verdict = await box.reload(
        broken(file, fault, box.disk), confirm_s=CONFIRM_S if confirm else 0, cancel_at=what.get("cancel")
    )
    box.workshop.fails, box.net.refused = None, set()
    loaded = box.app.loaded
    is_in_force = loaded.config is not loaded_before.config
    result = None if verdict is None else verdict.result
    if verdict is not None:
        assert is_in_force == (result == "reloaded"), verdict
        if result == "refused":
            assert fault is not None, verdict
        else:
            assert words_of(verdict) == changes(in_force, file)
        if result in ("reloaded", "rolled back"):
            is_lost = confirm and bool(lost_uplinks(good, file))
            assert is_lost == (result == "rolled back"), verdict
    if loaded is loaded_before:
        assert box.parts() == before
        await trio.sleep(20)  # what was begun for nothing has gone
        assert box.net.listening == listening
        after = box.place.links
        assert {name: after.get(name) for name in links} == links
        return in_force
    kept = is_kept(in_force, file)
    for key, part in before.items():
        if part_name(key) in kept or key[0] == "sessions":
            assert box.parts()[key] is part, key
    await trio.sleep(1)
    after, uplinks = box.place.links, file.tables()
    for name, link in links.items():
        if any(owns(uplinks[each], name) for each in kept if each.startswith("uplink")) and name in after:
            assert after[name] is link, f"{name} has another link"
    return file if is_in_force else with_files_of(in_force, file)


STDIO = Table(("stdio", "x"), 30.0)
HQ = Table(("contextforge", "all", "box-1", "box"), None)
GOOD = replace(
    EMPTY,
    servers={"a": STDIO},
    uplinks={"p": HQ},
    gateway=Table(("127.0.0.1:8766",), "/mcp"),
    hub=hub_of("127.0.0.1:8444", ("plant",), "a1"),
)
RENAMED: list[Reload] = [
    (replace(EMPTY, servers={"a": STDIO}, uplinks={"p": HQ}), None, False),
    (replace(EMPTY, servers={"a": STDIO}, uplinks={"q": HQ}), None, False),
]
NOT_CONFIRMED: list[Reload] = [
    (GOOD, None, True),
    (
        replace(
            GOOD,
            uplinks={"p": replace(HQ, made_of=(*HQ.made_of[:3], UNKNOWN))},
            hub=hub_of("127.0.0.1:8444", ("plant",), "a2"),
        ),
        None,
        True,
    ),
    (GOOD, None, False),
]

MOVED: list[Reload] = [
    (replace(GOOD, control=Table(CONTROLS[0], None)), None, False),
    (replace(GOOD, control=Table(CONTROLS[1], None), servers={"b": STDIO}), None, False),
    (
        replace(GOOD, control=Table(CONTROLS[1], None), hub=hub_of("127.0.0.1:8444", ("plant",), "a2")),
        None,
        False,
    ),
]


@settings(max_examples=20)
@example(RENAMED)
@example(NOT_CONFIRMED)
@example(MOVED)
@given(sequence=st.lists(st.tuples(files, faults, st.booleans()), min_size=1, max_size=5))
def test_whatever_comes_and_fails_the_last_good_config_is_in_force_as_if_it_had_been_the_first(
    disk: Disk, sequence: list[Reload]
) -> None:
    clock = MockClock(autojump_threshold=0)
    in_force, seen = trio.run(run_through, disk, EMPTY, sequence, clock=clock)
    _, fresh = trio.run(run_through, disk, in_force, [], clock=MockClock(autojump_threshold=0))
    for what in fresh:
        assert seen[what] == fresh[what], what
