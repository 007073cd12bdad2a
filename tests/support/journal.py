"""systemd's journal as far as a sender sees it: a datagram socket, and what is in the entries that come."""

import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def decoded(entry: bytes) -> dict[str, str]:
    """The fields of an entry; AssertionError if it is not in the journal's form, or has a field twice."""
    fields: dict[str, str] = {}
    while entry:
        line, feed, rest = entry.partition(b"\n")
        assert feed, line
        name, equals, value = line.partition(b"=")
        if equals:
            entry = rest
        else:
            (size,) = struct.unpack("<Q", rest[:8])
            value, entry = rest[8 : 8 + size], rest[8 + size :]
            assert entry[:1] == b"\n"
            entry = entry[1:]
        assert name.decode() not in fields
        fields[name.decode()] = value.decode()
    return fields


class JournalSocket:
    """`take` gives the next entry, and in `was_file` whether it came as a memory file."""

    def __init__(self, listening: socket.socket, path: str) -> None:
        self.path = path
        self.was_file = False
        self._socket = listening

    def take(self) -> dict[str, str]:
        data, rights, _, _ = socket.recv_fds(self._socket, 1_000_000, 1)
        self.was_file = bool(rights)
        if not rights:
            return decoded(data)
        assert data == b""
        with os.fdopen(rights[0], "rb") as file:
            seals = fcntl.fcntl(file.fileno(), fcntl.F_GET_SEALS)
            assert seals == fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            file.seek(0)
            return decoded(file.read())

    def is_empty(self) -> bool:
        return not select.select([self._socket], [], [], 0)[0]


@contextmanager
def journal_socket(folder: Path) -> Iterator[JournalSocket]:
    path = str(folder / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        listening.settimeout(10)
        yield JournalSocket(listening, path)
