"""`SocketStream` keeps Trio's contract for streams, and its own for sending without waiting."""

import socket

import pytest
import trio
import trio.testing

from edge.net.socket_stream import SocketStream


async def pair() -> tuple[SocketStream, SocketStream]:
    left, right = socket.socketpair()
    return SocketStream(left), SocketStream(right)


async def clogged_pair() -> tuple[SocketStream, SocketStream]:
    left, right = await pair()
    for stream in (left, right):
        while stream.try_send(b"x" * 65536):
            pass
    return left, right


async def test_it_keeps_the_contract_of_streams() -> None:
    with trio.fail_after(20):
        await trio.testing.check_half_closeable_stream(pair, clogged_pair)


async def test_trying_to_send_says_how_much_was_taken() -> None:
    left, right = await clogged_pair()
    async with left, right:
        assert left.try_send(b"x") == 0
        with trio.fail_after(10):
            while not left.try_send(b"x"):
                assert await right.receive_some()


async def test_trying_to_send_on_a_broken_or_closed_socket_raises() -> None:
    left, right = await pair()
    right.abort()
    with pytest.raises(trio.BrokenResourceError):
        left.try_send(b"x")
    left.abort()
    left.close()
    with pytest.raises(trio.ClosedResourceError):
        left.try_send(b"x")
