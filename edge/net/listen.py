"""Listening sockets: TCP over IPv4, IPv6 and host names, and Unix sockets; made here or inherited from systemd.

A Unix socket has mode 0600, replaces a file left behind by a process that is gone, never one that somebody
listens on, and takes its file away at the end. One that was inherited (sd_listen_fds(3)) is used where an address
of the config is its own, and is never closed for good: it is systemd's, and a later reload may ask for it again.
"""

import errno
import os
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar

import trio

from edge.config.address import Address, parse_address
from edge.errors import ConfigError, EdgeError, Problem
from edge.net.overlap import Place, side_by_side
from edge.net.socket_stream import SocketStream

BACKLOG = 1024
ADVICE = {
    errno.EADDRINUSE: "the address is in use; stop the program that has it (ss -ltnp names it) "
    "or take another port",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.EACCES: "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE, "
    "a Unix socket a directory we may write to",
    errno.ENOENT: "the directory of the Unix socket does not exist",
}
OF_THE_CONNECTION = frozenset(
    {errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
    | {errno.ENONET, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ETIMEDOUT}
)
"""Errors of the connection that waits, which accept(2) of Linux reports as its own."""
FIRST_INHERITED = 3
NOTHING_INHERITED: "Inherited" = MappingProxyType({})
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class ListeningSocket:
    """One socket that accepts connections. `address` is what clients connect to, with the real port."""

    def __init__(
        self, sock: socket.socket, address: str, unix_path: str = "", *, is_unix: bool = False
    ) -> None:
        sock.setblocking(False)
        self.address = address
        self.sock = sock
        self._is_unix = is_unix
        self._unix_path = unix_path  # of the file that goes with it; empty: there is none, or it is not ours
        self._file = os.stat(unix_path) if unix_path else None

    def lent(self) -> "ListeningSocket":
        """Another descriptor of the same socket: Trio lets one task wait for each. Its file stays with this one."""
        return ListeningSocket(self.sock.dup(), self.address, is_unix=self._is_unix)

    async def accept(self) -> tuple[SocketStream, str]:
        """The next connection and its peer's address as text. OSError (no file descriptor left) rises."""
        while True:
            self._check_open()
            await trio.lowlevel.wait_readable(self.sock)
            self._check_open()
            try:
                return self._accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue  # the client has left already
            except OSError as exc:
                if exc.errno not in OF_THE_CONNECTION:
                    raise

    def accept_waiting(self) -> list[tuple[SocketStream, str]]:
        """Those that wait now; fewer if no file descriptor is left."""
        found: list[tuple[SocketStream, str]] = []
        while True:
            try:
                found.append(self._accept())
            except ConnectionAbortedError:
                pass
            except OSError as exc:
                if exc.errno not in OF_THE_CONNECTION:
                    return found

    def _accept(self) -> tuple[SocketStream, str]:
        sock, peer = self.sock.accept()
        return SocketStream(sock), "unix" if self._is_unix else shown(*peer[:2])

    def _check_open(self) -> None:
        if self.sock.fileno() < 0:
            raise trio.ClosedResourceError("this listening socket is closed")

    def close(self) -> None:
        """Stop listening; a Unix socket's file goes too, unless it is somebody else's by now."""
        if self.sock.fileno() < 0:
            return
        trio.lowlevel.notify_closing(self.sock)
        self.sock.close()
        if self._file is not None:
            try:
                if os.path.samestat(self._file, os.lstat(self._unix_path)):
                    os.unlink(self._unix_path)
            except FileNotFoundError:
                pass  # somebody tidied up before us


def parse_listen(text: str) -> Address:
    """`host:port`, `[::1]:port` or `unix:/path`. Raises: ConfigError."""
    try:
        return parse_address(text)
    except ValueError as exc:
        raise ConfigError([Problem("", f"cannot listen on {text}: {exc}")]) from exc


Inherited = Mapping[tuple[int, str | tuple[str, int]], socket.socket]
"""Sockets that systemd listens on for us, by family and path or address."""


def inherited_from(env: Mapping[str, str], pid: int) -> list[socket.socket]:
    """What `LISTEN_FDS` passes to this process, in order; none if it is meant for another one. What does not listen
    is left out."""
    if env.get("LISTEN_PID") != str(pid) or not env.get("LISTEN_FDS", "").isdecimal():
        return []
    found: list[socket.socket] = []
    for number in range(FIRST_INHERITED, FIRST_INHERITED + int(env["LISTEN_FDS"])):
        try:
            os.set_inheritable(number, False)  # no server that we start has it
            sock = socket.socket(fileno=number)
        except OSError:
            continue  # not there, or a pipe
        if sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.append(sock)
        else:
            sock.close()
    return found


def by_place(sockets: Sequence[socket.socket]) -> Inherited:
    return {(sock.family, place_of(sock)): sock for sock in sockets}


def place_of(sock: socket.socket) -> str | tuple[str, int]:
    """Where it listens: a path, or host and port."""
    name = sock.getsockname()
    return str(name) if sock.family == socket.AF_UNIX else (name[0], name[1])


def place_text(sock: socket.socket) -> str:
    """The same as the config would write it."""
    place = place_of(sock)
    return f"unix:{place}" if isinstance(place, str) else shown(*place)


class Opened(Protocol):
    """What listens at one place."""

    address: str

    def close(self) -> None:
        """Stop listening."""


T = TypeVar("T", bound=Opened)


async def open_listeners(text: str, inherited: Inherited = NOTHING_INHERITED) -> list[ListeningSocket]:
    """Listen on an address; a host name may stand for several. All of them, or none.

    Raises: ConfigError if it is no address; EdgeError if it cannot be listened on, with what to do.
    """
    return await open_each(text, lambda family, place: open_place(family, place, inherited))


async def open_each(
    text: str, open_one: Callable[[int, Place], T], known: Sequence[tuple[int, Place]] = ()
) -> list[T]:
    """`open_one` for each place that an address stands for: `known`, if that is known already. Raises as
    `open_listeners`."""
    address = parse_listen(text)
    try:
        return open_all(known or await places_of(address), open_one)
    except socket.gaierror as exc:
        raise EdgeError(
            f"cannot listen on {text}: the host name cannot be resolved ({exc.strerror})"
        ) from exc
    except OSError as exc:
        raise EdgeError(f"cannot listen on {text}: {ADVICE.get(exc.errno or 0, exc.strerror)}") from exc


async def places_of(address: Address) -> list[tuple[int, Place]]:
    if address.unix_path:
        return [(socket.AF_UNIX, address.unix_path)]
    found = await trio.socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((int(family), place) for family, _, _, _, place in found))


def open_all(places: Sequence[tuple[int, Place]], open_one: Callable[[int, Place], T]) -> list[T]:
    """Of port 0: the same one for all."""
    opened: list[T] = []
    missing: OSError | None = None
    with ExitStack() as on_failure:
        for family, place in places:
            if opened and not isinstance(place, str):
                place = (place[0], int(opened[0].address.rpartition(":")[2]), *place[2:])
            try:
                one = open_one(family, place)
            except OSError as exc:
                if exc.errno not in NOT_HERE:
                    raise
                missing = exc  # localhost often stands for ::1 too, on machines without IPv6
                continue
            on_failure.callback(one.close)
            opened.append(one)
        if missing is not None and not opened:
            raise missing
        on_failure.pop_all()
    return opened


def open_place(
    family: int, place: Place, inherited: Inherited, beside: Sequence[socket.socket] = ()
) -> ListeningSocket:
    """`beside` are sockets of ours that listen on a part of this address, or on one that this is a part of. If there
    are any, it does not listen yet: `sock.listen` is left to do, side by side with them.

    Raises: OSError.
    """
    if isinstance(place, str):
        return open_unix(place, inherited)
    return bind_tcp(family, place, inherited, beside)


def bind_tcp(
    family: int, place: tuple[str | int | bytes, ...], inherited: Inherited, beside: Sequence[socket.socket]
) -> ListeningSocket:
    ours = inherited.get((family, (str(place[0]), int(place[1]))))
    with ExitStack() as on_failure:
        made = ours.dup() if ours is not None else socket.socket(family, socket.SOCK_STREAM)
        sock = on_failure.enter_context(made)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit these: no answer waits for the next segment, and a dead peer is noticed.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if ours is None:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if beside:
                with side_by_side((*beside, sock)):
                    sock.bind(place)
            else:
                sock.bind(place)
                sock.listen(BACKLOG)
        on_failure.pop_all()
    return ListeningSocket(sock, shown(*sock.getsockname()[:2]))


def open_unix(path: str, inherited: Inherited) -> ListeningSocket:
    ours = inherited.get((socket.AF_UNIX, path))
    if ours is not None:
        return ListeningSocket(ours.dup(), f"unix:{path}", is_unix=True)
    remove_stale(path)
    with ExitStack() as on_failure:
        sock = on_failure.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.bind(path)
        os.chmod(path, 0o600)  # nobody can connect before listen()
        sock.listen(BACKLOG)
        on_failure.pop_all()
    return ListeningSocket(sock, f"unix:{path}", path, is_unix=True)


def remove_stale(path: str) -> None:
    """Take away the file of a Unix socket that nobody listens on any more."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise EdgeError(f"cannot listen on unix:{path}: a file that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # its backlog is full: it lives
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def shown(host: str, port: int) -> str:
    """An address as it is written in the config."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
