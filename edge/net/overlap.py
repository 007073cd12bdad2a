"""Two sockets of ours on one port, of which one's address is part of the other's, while one takes the other's place.

Theory of operation. Linux refuses the second of 127.0.0.1:P and 0.0.0.0:P, unless both have SO_REUSEPORT at the moment
of bind(2), and again of listen(2). So both have it for just these moments (`side_by_side`). The kernel remembers of a
port that such sockets were bound last, and would let other programs of our user in by that, until one without the
option is bound: this is what `seal` does. New connections go to the more specific one of two that listen; the older
one gets no more of them once it is said to belong to a network interface that does not exist (`turn_away`), so it can
be emptied and closed and no connection is lost. Seen on Linux 6.18; before 5.7 the last step is refused to us, and a
connection that comes in the instant of the end is lost. One whose handshake is under way then, over a network, is lost
in any case.
"""

import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

Place = str | tuple[str | int | bytes, ...]
"""What bind(2) is given: the path of a Unix socket, or host, port and what else IPv6 has (bytes: Python without it)."""

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  recognized, not bound
NOT_OURS = (  # addresses of documentation (RFC 3849, RFC 5737), with the option to bind what is not there
    (socket.AF_INET6, "2001:db8::1", socket.IPPROTO_IPV6, 78),  # IPV6_FREEBIND
    (socket.AF_INET, "192.0.2.1", socket.IPPROTO_IP, 15),  # IP_FREEBIND
)
FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6})
SO_BINDTOIFINDEX = 62
NO_INTERFACE = 0x7FFFFFFF


def overlap(family: int, place: Place, other_family: int, other: Place) -> bool:
    """Whether one address is part of the other; not if they are equal. Ours for IPv6 are for IPv6 only."""
    if family != other_family or isinstance(place, str) or isinstance(other, str):
        return False
    return place[1] == other[1] != 0 and place[0] != other[0] and bool({place[0], other[0]} & {*EVERYWHERE})


@contextmanager
def side_by_side(socks: Sequence[socket.socket]) -> Iterator[None]:
    """While it lasts, one of `socks` may be bound to a part of another's address, or begin to listen there."""
    try:
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield
    finally:
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        for port in {sock.getsockname()[1] for sock in socks} - {0}:
            seal(port)


def seal(port: int, families: Collection[int] = FAMILIES) -> bool:
    """Nobody else gets a part of `port` by SO_REUSEPORT. One of the two families will do, whichever is free there:
    it is not if somebody listens on all of its addresses. Whether it could be done."""
    is_done = False
    for family, host, level, free_bind in NOT_OURS:
        if family not in families:
            continue
        with suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(level, free_bind, 1)
            sock.bind((host, port))
            is_done = True
    return is_done


def turn_away(sock: socket.socket) -> None:
    """No new connections for a listening socket: they go to the other one. Those that it has stay."""
    with suppress(OSError):  # of an older kernel, see above
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, NO_INTERFACE)
