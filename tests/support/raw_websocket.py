"""WebSocket frames by hand, and a WebSocket of ours whose other end is a memory stream in a test's hands."""

import base64
import hashlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing
from trio.testing import MemoryReceiveStream, MemorySendStream

from edge.net.http_head import HttpRequest
from edge.net.websocket import WebSocket, accept_websocket, open_websocket

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x01\x02\x03\x04"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MOST = 1000  # bytes of a message


def frame(opcode: int, payload: bytes = b"", *, masked: bool = True, final: bool = True) -> bytes:
    size = len(payload)
    bit = 0x80 if masked else 0
    head = bytes([opcode | (0x80 if final else 0)])
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    if masked:
        payload = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))
        head += MASK
    return head + payload


def goodbye_of(code: int, reason: str = "") -> bytes:
    return struct.pack("!H", code) + reason.encode()


def upgrade(**fields: str) -> HttpRequest:
    """A handshake as our HTTP server hands it over; a field that is set to "" is left out."""
    headers = {
        "host": "hub.test",
        "connection": "keep-alive, Upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
        "x-session-id": "s1",
    } | {name.replace("_", "-"): value for name, value in fields.items()}
    headers = {name: value for name, value in headers.items() if value}
    return HttpRequest("GET", "/link", "a=b", headers, frozenset(), b"", "test")


def accept_token(key: str) -> str:
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode()


class RawPeer:
    """The other end: sends bytes, reads frames."""

    def __init__(self, stream: trio.abc.Stream, *, is_client: bool) -> None:
        self.stream = stream
        self._is_client = is_client
        self._received = b""

    async def send(self, *frames: bytes) -> None:
        await self.stream.send_all(b"".join(frames))

    async def say(self, opcode: int, payload: bytes = b"", *, final: bool = True) -> None:
        await self.send(frame(opcode, payload, masked=self._is_client, final=final))

    async def head(self) -> str:
        while b"\r\n\r\n" not in self._received:
            await self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        return head.decode("latin-1")

    async def hear(self) -> tuple[int, bytes]:
        """The next frame's opcode and payload. EOFError at the end of the connection."""
        first, second = await self._exactly(2)
        assert first & 0x70 == 0, "no extension was agreed on"
        assert bool(second & 0x80) is not self._is_client, "clients mask, servers do not"
        size = second & 0x7F
        if size == 126:
            [size] = struct.unpack("!H", await self._exactly(2))
        elif size == 127:
            [size] = struct.unpack("!Q", await self._exactly(8))
        mask = b"" if self._is_client else await self._exactly(4)
        payload = await self._exactly(size)
        if mask:
            payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        return first & 0x0F, payload

    async def hear_end(self) -> bytes:
        """What comes until the connection ends."""
        try:
            while True:
                await self._more()
        except EOFError:
            return self._received

    async def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            await self._more()
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    async def _more(self) -> None:
        data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError
        self._received += data


@asynccontextmanager
async def accepted(*, most: int = MOST) -> AsyncIterator[tuple[WebSocket, RawPeer]]:
    """Our server's end, and a client by hand, after the handshake."""
    ours, theirs = trio.testing.memory_stream_pair()
    with trio.fail_after(60):  # of the mock clock's seconds
        async with await accept_websocket(ours, upgrade(), headers={}, max_message_bytes=most) as websocket:
            peer = RawPeer(theirs, is_client=True)
            await peer.head()
            yield websocket, peer


@asynccontextmanager
async def opened(early: bytes = b"") -> AsyncIterator[tuple[WebSocket, RawPeer]]:
    """Our client's end, and a server by hand that sent `early` right behind its 101."""
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawPeer(theirs, is_client=False)

    async def switch() -> None:
        head = await peer.head()
        key = next(line for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key: "))
        await peer.send(switching(key.split(" ")[1]) + early)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(switch)
        async with open_websocket(
            ours, host="hub.test", target="/", headers={}, max_message_bytes=MOST, timeout_s=10
        ) as websocket:
            yield websocket, peer


def switching(key: str, *fields: str) -> bytes:
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_token(key)}",
        *fields,
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def hold_back(stream: trio.StapledStream[MemorySendStream, MemoryReceiveStream], until: trio.Event) -> None:
    """What is sent on one end of a memory stream pair arrives, and is done with, only after `until`."""
    pump = stream.send_stream.send_all_hook
    assert pump is not None, "it is how the two are connected"

    async def wait_and_pump() -> None:
        await until.wait()
        await pump()

    stream.send_stream.send_all_hook = wait_and_pump
