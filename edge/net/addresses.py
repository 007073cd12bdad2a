"""The listening sockets of a process: each address is opened once, and lent to whoever accepts on it.

Theory of operation. A reload opens what the new config listens on while the old one is in force (`changing`). What
nobody has is opened and answers. What an older listener has, of its own kind or another's, is lent to the new one as
well, which accepts from the step on that puts the config in force: one socket, so no connection is refused in between,
and if the reload comes to nothing, nobody has noticed. An address that one in use is a part of, or that is a part of
one in use, gets a socket of its own (`overlap`), which listens from that step on; the older one is emptied into it, and
closed. A socket is closed when the last of those that it was lent to has given it back.
"""

import socket
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import trio

from edge.config.address import parse_address
from edge.errors import EdgeError
from edge.net.listen import BACKLOG, ListeningSocket, by_place, open_each, open_place, place_text
from edge.net.overlap import EVERYWHERE, FAMILIES, Place, overlap, seal, side_by_side, turn_away
from edge.net.socket_stream import SocketStream

ONLY_BY_A_RESTART = "this machine lets another address take its place only by a restart"
Wanted = Mapping[str, Collection[str]]
"""Owners of addresses, each with those that it is to have."""


class Addresses:
    """`inherited` are sockets that listen already; they are used for the addresses that they have."""

    def __init__(self, inherited: Sequence[socket.socket] = ()) -> None:
        self._inherited = by_place(inherited)
        self._shared: dict[tuple[int, Place], Shared] = {}
        self._wanted: Wanted | None = None  # during a change
        self._opening = trio.Lock()

    def of(self, owner: str) -> Callable[[str], Awaitable[Sequence["Lent"]]]:
        """What opens addresses for listeners of that name: what they share is shared with nobody else, unless that
        gives it up in the change that is under way.

        Raises as `open_listeners`.
        """

        async def open_address(text: str) -> Sequence[Lent]:
            async with self._opening:  # of two that ask for one address, the second one borrows
                known = [key for key, shared in self._shared.items() if shared.is_lent_to(owner, text)]
                return await open_each(text, partial(self._lend, owner, text), known)

        return open_address

    @contextmanager
    def changing(self, wanted: Wanted) -> Iterator[Callable[[], None]]:
        """While it lasts, addresses may be opened as `wanted`, which has all owners, with all of their addresses as
        the config has them. Gives the step that puts this in force; it never fails, and has no checkpoint."""
        self._wanted = wanted
        try:
            yield self._put_in_force
        finally:
            self._wanted = None
            for shared in self._shared.values():
                shared.heir = None
                shared.resume()

    def _put_in_force(self) -> None:
        taking = [shared for shared in self._shared.values() if shared.heir is not None]
        for shared in taking:
            shared.listen()
        for rival in dict.fromkeys(rival for shared in taking for rival in shared.rivals):
            for stream, peer in rival.end():
                heir = next((shared for shared in taking if shared.is_meant_by(stream)), None)
                if heir is None:  # what it came to is no address of ours any more
                    stream.close()
                else:
                    heir.waiting.append((stream, peer))
        for shared in taking:
            shared.hand_over()

    def _lend(self, owner: str, text: str, family: int, place: Place) -> "Lent":
        """Raises: OSError, EdgeError."""
        shared = self._shared.get((family, place))
        rivals = [one for key, one in self._shared.items() if overlap(family, place, *key)]
        kept = [one for one in rivals if self._is_kept(one)]
        if shared is not None and (shared.heir or shared.owner) != owner and self._is_kept(shared):
            kept.append(shared)
        if kept:
            ours = f"our own {kept[0].heir or kept[0].owner} listens on {kept[0].address} as well"
            raise EdgeError(f"cannot listen on {text}: {ours}; take another port")
        if shared is None:
            shared = self._open(owner, text, family, place, rivals)
        if self._wanted is not None:
            shared.heir = owner
            shared.rivals = rivals
        return shared.lend(owner, text, waits=self._wanted is not None and shared.is_answered)

    def _is_kept(self, shared: "Shared") -> bool:
        """Whether somebody has it after this as well."""
        wanted = self._wanted
        if wanted is None or shared.heir is not None:
            return True
        return any(shared.is_lent_to(shared.owner, text) for text in wanted.get(shared.owner, ()))

    def _open(self, owner: str, text: str, family: int, place: Place, rivals: Sequence["Shared"]) -> "Shared":
        if self._leaves_a_gap(family, place, rivals):
            raise EdgeError(f"cannot listen on {text}: {self._in_the_way(text, rivals) or ONLY_BY_A_RESTART}")
        # Those that systemd listens on stay open whatever we do.
        beside = [one.sock for one in rivals if one.address not in map(place_text, self._inherited.values())]
        try:
            listening = open_place(family, place, self._inherited, beside)
        except OSError as exc:
            if (why := self._in_the_way(text, rivals)) is None:
                raise
            raise EdgeError(f"cannot listen on {text}: {why}") from exc
        key = (family, listening.sock.getsockname())

        def forget() -> None:
            if self._shared.get(key) is shared:
                del self._shared[key]

        shared = self._shared[key] = Shared(listening, owner, rivals, forget)
        return shared

    def _leaves_a_gap(self, family: int, place: Place, rivals: Sequence["Shared"]) -> bool:
        """Whether other programs could have a part of the port after it took the place of `rivals`: if the other
        family has somebody at all of its addresses as well, or there is none."""
        if isinstance(place, str):
            return False
        port = int(place[1])
        others = [
            shared
            for (of, at), shared in self._shared.items()
            if of != family and not isinstance(at, str) and at[0] in EVERYWHERE and at[1] == port
        ]
        if not rivals:
            return place[0] in EVERYWHERE and any(shared.rivals for shared in others)
        return bool(others) or not seal(port, FAMILIES - {family})

    def _in_the_way(self, text: str, rivals: Sequence["Shared"]) -> str | None:
        """What of our own has that port."""
        port = parse_address(text).port
        for address in map(place_text, self._inherited.values()):
            if port and address.rpartition(":")[2] == str(port):
                return (
                    f"systemd listens on {address} for us; change ListenStream= of its .socket unit, "
                    "or take another port"
                )
        if rivals:
            ours = f"our own {rivals[0].owner} listens on {rivals[0].address}"
            return f"{ours}, and {ONLY_BY_A_RESTART}"
        return None

    def unused(self) -> list[str]:
        """Inherited addresses at which nothing listens: whoever connects there waits for ever."""
        used = {shared.address for shared in self._shared.values()}
        return [text for sock in self._inherited.values() if (text := place_text(sock)) not in used]


class Shared:
    """One listening socket, and those that it is lent to.

    `owner` is whose it is, `heir` whose it will be when the change that is under way is in force. `rivals` are the
    sockets of which it takes the place then; it does not listen before that. `on_end` is called when it is closed.
    """

    def __init__(
        self, listening: ListeningSocket, owner: str, rivals: Sequence["Shared"], on_end: Callable[[], None]
    ) -> None:
        self.address = listening.address
        self.sock = listening.sock
        self.owner = owner
        self.heir: str | None = None
        self.rivals = rivals
        self.waiting: deque[tuple[SocketStream, str]] = deque()  # came to a rival, at most BACKLOG each
        self._listening = listening
        self._lent: list[Lent] = []
        self._listens = not rivals
        self._on_end = on_end

    @property
    def is_answered(self) -> bool:
        """Whether somebody accepts on it, or on what it takes the place of."""
        return bool(self._lent) or not self._listens

    def is_lent_to(self, owner: str, text: str) -> bool:
        return any((lent.owner, lent.text) == (owner, text) for lent in self._lent)

    def lend(self, owner: str, text: str, *, waits: bool) -> "Lent":
        """`waits`: until `hand_over`. Raises: OSError (no file descriptor left)."""
        try:
            lent = Lent(self, self._listening.lent(), owner, text)
        except OSError:
            if not self._lent:
                self.end()
            raise
        self._lent.append(lent)
        if not waits:
            lent.begin()
        return lent

    def resume(self) -> None:
        """The change is over: whoever was lent it meanwhile by the same owner, after a crash say, waits no longer."""
        for lent in self._lent:
            if lent.owner == self.owner:
                lent.begin()

    def take_back(self, lent: "Lent") -> None:
        self._lent.remove(lent)
        if not self._lent:
            self.end()

    def listen(self) -> None:
        """Beside its rivals, if it does not yet. Never fails: one that cannot listen fails when it is accepted on."""
        if not self._listens:
            beside = [rival.sock for rival in self.rivals if rival.sock.fileno() >= 0]
            with suppress(OSError), side_by_side([self.sock, *beside]):
                self.sock.listen(BACKLOG)
            self._listens = True

    def is_meant_by(self, stream: SocketStream) -> bool:
        """Whether a connection to one of its rivals went to an address that is its own, too."""
        family, host = stream.local
        return family == self.sock.family and self.sock.getsockname()[0] in (host, *EVERYWHERE)

    def hand_over(self) -> None:
        """From now on it is its heir's."""
        if self.heir is None:
            raise AssertionError("nobody to hand it over to")
        self.owner, self.rivals = self.heir, ()
        for lent in self._lent:
            if lent.owner == self.owner:
                lent.begin()
            else:
                lent.retire()

    def end(self) -> Sequence[tuple[SocketStream, str]]:
        """Closes it. Gives those that wait to be accepted, if it is still lent: another has taken its place."""
        found: Sequence[tuple[SocketStream, str]] = ()
        if self._lent and self.sock.fileno() >= 0:
            turn_away(self.sock)
            found = [*self.waiting, *self._listening.accept_waiting()]
        else:
            for stream, _ in self.waiting:
                stream.close()
        self.waiting.clear()
        for lent in self._lent:
            lent.retire()
        self._listening.close()
        self._on_end()
        return found


class Lent:
    """A listening socket that is shared; closing it gives it back."""

    def __init__(self, shared: Shared, own: ListeningSocket, owner: str, text: str) -> None:
        self.address = own.address
        self.owner = owner
        self.text = text
        self._shared = shared
        self._own = own
        self._turn = trio.Event()
        self._is_over = False
        self._is_closed = False

    async def accept(self) -> tuple[SocketStream, str]:
        """As `ListeningSocket.accept`."""
        if not self._turn.is_set():
            await self._turn.wait()
        if self._shared.waiting:
            await trio.lowlevel.checkpoint()
            if self._shared.waiting and not self._is_over:
                return self._shared.waiting.popleft()
        try:
            return await self._own.accept()
        except trio.ClosedResourceError:
            if self._is_closed:
                raise
            await trio.sleep_forever()
            raise AssertionError("it slept for ever") from None

    def begin(self) -> None:
        """Accept: it is in force."""
        self._turn.set()

    def retire(self) -> None:
        """Accept no more, and wait to be closed: another has its place."""
        self._is_over = True
        self._own.close()
        self._turn.set()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self.retire()
            self._shared.take_back(self)
