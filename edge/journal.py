"""Entries for systemd's journal in its own form, where fields stay fields.

An entry is one datagram: `NAME=value` and a line feed for each field; a value that holds line feeds has its length
before it instead (64 bits, little-endian). One that is too long for a datagram goes as a sealed memory file.
Source: systemd, "Native Journal Protocol", https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
"""

import errno
import fcntl
import os
import re
import socket
import struct
from array import array
from collections.abc import Iterable, Mapping

SOCKET = "/run/systemd/journal/socket"
MAX_VALUE_BYTES = 65_536  # of one field; what is longer is cut
MAX_FIELDS = 64
FIELD_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
TOO_LONG = (errno.EMSGSIZE, errno.ENOBUFS)
SEALS = ("F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_WRITE", "F_SEAL_SEAL")


def is_stream_of(env: Mapping[str, str], descriptor: int) -> bool:
    """Whether what is written to the descriptor goes to the journal, as `$JOURNAL_STREAM` says (device:inode)."""
    device, _, inode = env.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(descriptor)
        return (found.st_dev, found.st_ino) == (int(device), int(inode))
    except (OSError, ValueError):
        return False


def field_name(name: str, prefix: str = "") -> str | None:
    """`name` as the journal has it: upper case, nothing but letters, digits and underscores; None if it cannot be."""
    whole = prefix + re.sub(r"[^A-Z0-9_]", "_", name.upper())
    return whole if FIELD_NAME.fullmatch(whole) else None


def encoded(fields: Iterable[tuple[str, str]]) -> bytes:
    """An entry. Names are as `field_name` gives them; at most MAX_FIELDS are taken, the first ones."""
    parts: list[bytes] = []
    for name, text in list(fields)[:MAX_FIELDS]:
        value = text.encode(errors="backslashreplace")[:MAX_VALUE_BYTES]
        if b"\n" in value:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
        else:
            parts.append(name.encode() + b"=" + value + b"\n")
    return b"".join(parts)


class Journal:
    """The way to it. Sending never waits: OSError if it is not there, or has no room just now.

    It may be restarted at any time: each entry looks for it anew.
    """

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def send(self, entry: bytes) -> None:
        """Raises: OSError; then nothing was sent."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        try:
            self._socket.sendto(entry, self._path)
        except OSError as exc:
            if exc.errno not in TOO_LONG or not hasattr(os, "memfd_create"):  # which Linux has
                raise
            self._send_file(self._socket, entry)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send_file(self, sock: socket.socket, entry: bytes) -> None:
        descriptor = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(entry)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, sum(getattr(fcntl, name) for name in SEALS))
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [descriptor]))
            sock.sendmsg([], [rights], 0, self._path)
        finally:
            os.close(descriptor)
