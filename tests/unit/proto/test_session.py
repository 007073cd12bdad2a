"""The state of one legacy session."""

from typing import Any

import pytest

from edge.errors import RpcError
from edge.proto.session import Session


def session(**changed: Any) -> Session:
    return Session(id="abc", version="2025-11-25", view=None, now=10.0, **changed)


async def test_use_never_goes_back_in_time() -> None:
    one = session()
    one.touch(20.0)
    one.touch(15.0)
    assert one.last_used == 20.0


async def test_log_messages_come_from_info_up_until_the_client_says_otherwise() -> None:
    one = session()
    assert one.wants_log("info")
    assert not one.wants_log("debug")
    one.set_level("error")
    assert one.level == "error"
    assert not one.wants_log("warning")
    assert one.wants_log("critical")


@pytest.mark.parametrize("level", ["loud", "", None, 3])
async def test_a_level_that_is_none_is_refused_and_changes_nothing(level: object) -> None:
    one = session()
    with pytest.raises(RpcError) as caught:
        one.set_level(level)
    assert caught.value.code == -32602
    assert one.level is None


async def test_a_list_that_changed_often_is_told_once() -> None:
    one = session()
    for kind in ("tools", "prompts", "tools"):
        one.list_changed(kind)
    assert one.take_dirty() == ["prompts", "tools"]
    assert one.take_dirty() == []


async def test_a_subscription_counts_once_and_ends_once() -> None:
    one = session()
    assert one.subscribe("file:///a")
    assert not one.subscribe("file:///a")
    assert one.subscriptions == {"file:///a"}
    assert one.unsubscribe("file:///a")
    assert not one.unsubscribe("file:///a")
    assert one.subscriptions == frozenset()


async def test_subscriptions_are_bounded() -> None:
    one = session(max_subscriptions=2)
    one.subscribe("a:1")
    one.subscribe("a:2")
    with pytest.raises(RpcError) as caught:
        one.subscribe("a:3")
    assert (caught.value.code, caught.value.data) == (-32603, '{"reason":"limit"}')
    assert not one.subscribe("a:1")
    assert one.subscriptions == {"a:1", "a:2"}
