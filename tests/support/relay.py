"""A TCP relay between an edge and its hub, which cuts or stalls on command: a network at hand."""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator

RESET = struct.pack("ii", 1, 0)


class Relay:
    """Relays every connection to `127.0.0.1:target`, from a free `port` of its own. `count` of all so far."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.count = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self._is_refusing = False
        self._is_over = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """Reset every connection that is open now."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for each in pair:
                with contextlib.suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    each.shutdown(socket.SHUT_RDWR)

    def refuse(self, wanted: bool = True) -> None:
        """Reset new connections at once, or no longer."""
        self._is_refusing = wanted

    def stall(self) -> None:
        """Nothing is carried any more, in either direction; connections stay open."""
        self._flows.clear()

    def flow(self) -> None:
        """Carry again, also what has waited."""
        self._flows.set()

    def close(self) -> None:
        self._is_over = True
        self._flows.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while not self._is_over:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            self.count += 1
            if self._is_refusing:
                here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                here.close()
                continue
            try:
                there = socket.create_connection(("127.0.0.1", self.target), 10)
            except OSError:
                here.close()
                continue
            with self._lock:
                self._pairs.add((here, there))
            thread = threading.Thread(target=self._carry, args=(here, there), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry(self, here: socket.socket, there: socket.socket) -> None:
        other = {here: there, there: here}
        try:
            while not self._is_over:
                readable, _, _ = select.select([here, there], [], [], 0.05)
                self._flows.wait()
                for each in readable:
                    data = each.recv(65536)
                    if not data:
                        return
                    other[each].sendall(data)
        except (OSError, ValueError):
            pass  # cut, or left by one side
        finally:
            with self._lock:
                self._pairs.discard((here, there))
            for each in (here, there):
                each.close()


@contextlib.contextmanager
def relay(target: int) -> Iterator[Relay]:
    found = Relay(target)
    try:
        yield found
    finally:
        found.close()
