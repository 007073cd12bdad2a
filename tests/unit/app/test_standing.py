"""What has to be good again for a reload to be confirmed."""

from collections.abc import Callable

import pytest

from edge.app.standing import standing
from edge.health import Health

Change = Callable[[Health], object]


def stands() -> Health:
    """All of it good but a server, `c`, and a link, `hq/c`."""
    health = Health(now=lambda: 0.0, wall=lambda: 0.0)
    for key in ("listener:gateway", "server:a", "server:b", "uplink:hq/a", "uplink:hq/b"):
        health.add(key, required=key in ("listener:gateway", "server:a")).ready()
    for key in ("server:c", "uplink:hq/c"):
        health.add(key).degraded("was bad before")
    return health


def bad(key: str, *, required: bool = False) -> Change:
    return lambda health: health.add(key, required=required).degraded("401")


def removed(*keys: str) -> Change:
    def change(health: Health) -> None:
        for key in keys:
            health.remove(key)

    return change


def now_required(key: str) -> Change:
    return lambda health: setattr(health.statuses[key], "required", True)


def lost(before: Health, *changes: Change) -> list[str]:
    then = standing(before.statuses.values())
    for change in changes:
        change(before)
    return [status.key for status in then.lost(before.statuses.values())]


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        pytest.param([], [], id="as it was"),
        pytest.param([bad("server:a", required=True)], ["server:a"], id="a required server"),
        pytest.param([bad("server:a")], ["server:a"], id="one that is not required any more"),
        pytest.param([bad("server:b", required=True)], ["server:b"], id="one that has become required"),
        pytest.param([bad("server:b")], [], id="one that is not required"),
        pytest.param([now_required("server:c")], ["server:c"], id="required, so it is not ready any more"),
        pytest.param([bad("server:d", required=True)], ["server:d"], id="a new one, that is required"),
        pytest.param([bad("server:d")], [], id="a new one"),
        pytest.param([removed("server:a")], [], id="a server that was removed"),
        pytest.param([bad("listener:gateway", required=True)], ["listener:gateway"], id="a listener"),
        pytest.param([bad("uplink:hq/a")], ["uplink:hq/a"], id="a link"),
        pytest.param([removed("uplink:hq/a", "uplink:hq/b", "uplink:hq/c")], [], id="an uplink was removed"),
        pytest.param(
            [removed("uplink:hq/a", "uplink:hq/b", "uplink:hq/c"), bad("uplink:hq")],
            ["uplink:hq"],
            id="each has become all",
        ),
        pytest.param([bad("uplink:hq/d")], ["uplink:hq/d"], id="a new link of a good uplink"),
        pytest.param([bad("uplink:new")], [], id="a new uplink"),
    ],
)
def test_what_is_missing_after(changes: list[Change], missing: list[str]) -> None:
    assert lost(stands(), *changes) == missing


def test_where_it_was_not_ready_before_only_what_was_good_itself_has_to_be_good_again() -> None:
    def unready() -> Health:
        health = stands()
        health.add("server:r", required=True).degraded("down for days")
        return health

    assert lost(unready()) == []
    assert lost(unready(), now_required("server:c")) == []
    assert lost(unready(), bad("server:b", required=True)) == ["server:b"]
