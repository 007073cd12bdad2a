"""Accepting on a real socket when the system reports trouble of a connection as trouble of the listener."""

import errno
import os
import socket
from typing import Any

import pytest
import trio

from edge.net.listen import ListeningSocket


class Troubled(socket.socket):
    """A listening socket whose next accepts fail with `errors`."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, Any]:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


def listening(*errors: int) -> Troubled:
    sock = Troubled(socket.AF_INET, socket.SOCK_STREAM)
    sock.errors = list(errors)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


async def test_trouble_of_one_connection_is_not_the_listeners() -> None:
    sock = listening(errno.ENETDOWN, errno.EPROTO, errno.EHOSTUNREACH)
    listener = ListeningSocket(sock, "here")
    with socket.create_connection(sock.getsockname()) as client, trio.fail_after(10):
        stream, peer = await listener.accept()
        await stream.aclose()
        assert peer == "{}:{}".format(*client.getsockname())
    listener.close()


async def test_a_lack_of_descriptors_is_the_listeners() -> None:
    sock = listening(errno.EMFILE)
    listener = ListeningSocket(sock, "here")
    with socket.create_connection(sock.getsockname()), trio.fail_after(10), pytest.raises(OSError) as caught:
        await listener.accept()
    assert caught.value.errno == errno.EMFILE
    listener.close()
