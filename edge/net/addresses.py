"""The listening sockets of a process: each address is opened once, and lent to whoever accepts on it.

During a reload two listeners accept on one address side by side: the new one before it is in force, the old one until
it has ended. The socket is closed when the last of them has given it back, so no connection is refused in between.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence

import trio

from edge.config.address import parse_address
from edge.errors import EdgeError
from edge.net.listen import ListeningSocket, by_place, open_listeners, place_text
from edge.net.socket_stream import SocketStream


class Addresses:
    """`inherited` are sockets that listen already; they are used for the addresses that they have."""

    def __init__(self, inherited: Sequence[socket.socket] = ()) -> None:
        self._inherited = by_place(inherited)
        self._shared: dict[tuple[str, str], Shared] = {}
        self._opening = trio.Lock()

    def of(self, owner: str) -> Callable[[str], Awaitable[Sequence["Lent"]]]:
        """What opens addresses for listeners of that name: what they share is shared with nobody else.

        Raises as `open_listeners`.
        """

        async def open_address(text: str) -> Sequence[Lent]:
            key = (owner, text)
            async with self._opening:  # of two that ask for one address, the second one borrows
                if key not in self._shared:
                    self._shared[key] = Shared(await self._open(text))
                try:
                    return self._shared[key].lend(lambda: self._close(key))
                except OSError as exc:
                    raise EdgeError(f"cannot listen on {text}: {exc.strerror}") from exc

        return open_address

    async def _open(self, text: str) -> Sequence[ListeningSocket]:
        try:
            return await open_listeners(text, self._inherited)
        except EdgeError as exc:
            if (ours := self._in_the_way(text)) is None:
                raise
            owner, address = ours
            text_ = f"our own {owner} listens on {address}, and takes its place only by a restart of mcp-edge"
            raise EdgeError(f"cannot listen on {text}: {text_}") from exc

    def _in_the_way(self, text: str) -> tuple[str, str] | None:
        """Which of our own listeners has that port, and where."""
        port = parse_address(text).port
        for (owner, _), shared in self._shared.items():
            for one in shared.sockets:
                if port and one.address.rpartition(":")[2] == str(port):
                    return owner, one.address
        return None

    def unused(self) -> list[str]:
        """Inherited addresses at which nothing listens: whoever connects there waits for ever."""
        used = {one.address for shared in self._shared.values() for one in shared.sockets}
        return [text for sock in self._inherited.values() if (text := place_text(sock)) not in used]

    def _close(self, key: tuple[str, str]) -> None:
        for one in self._shared.pop(key).sockets:
            one.close()


class Shared:
    """The sockets of one address, and how many of them are lent."""

    def __init__(self, sockets: Sequence[ListeningSocket]) -> None:
        self.sockets = sockets
        self._n_lent = 0

    def lend(self, on_last: Callable[[], None]) -> list["Lent"]:
        """One of each; `on_last` is called when none is lent any more. Raises: OSError (no file descriptor left)."""

        def give_back() -> None:
            self._n_lent -= 1
            if not self._n_lent:
                on_last()

        self._n_lent += 1  # held until all are lent: if that fails, those that were are given back
        lent: list[Lent] = []
        try:
            for one in self.sockets:
                lent.append(Lent(one, give_back))
                self._n_lent += 1
        except OSError:
            for each in lent:
                each.close()
            raise
        finally:
            give_back()
        return lent


class Lent:
    """A listening socket that is shared; closing it gives it back."""

    def __init__(self, one: ListeningSocket, give_back: Callable[[], None]) -> None:
        self.address = one.address
        self._own = one.lent()
        self._give_back = give_back
        self._is_closed = False

    async def accept(self) -> tuple[SocketStream, str]:
        """As `ListeningSocket.accept`."""
        return await self._own.accept()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._own.close()
            self._give_back()
