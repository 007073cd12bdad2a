"""TLS over a socket, as a Trio stream that can also try to send without waiting.

Theory of operation. OpenSSL works on two buffers in memory; this stream moves what is in them to and from the socket.
Trio's `SSLStream` takes locks and several turns of the scheduler for every message; here an answer that the kernel
has room for is encrypted and sent in the caller's own step. What OpenSSL wants to say by itself (an answer to
KeyUpdate, a server's session tickets) goes out before the next data, where it must be at the latest: so reading never
waits for writing. A server may renegotiate while a client reads (TLS 1.2, to see a certificate), not while it writes.
Source: RFC 8446, sections 4.6, 5.1 and 6.1.
"""

import ssl
from collections.abc import Mapping
from contextlib import suppress
from operator import index
from typing import Any, NoReturn

import trio

from edge.errors import LocalProtocolError
from edge.net.socket_stream import DEFAULT_RECEIVE_BYTES, SCRATCH, QuickStream, SocketStream

PIECE_BYTES = 16384  # one TLS record; OpenSSL's buffers keep the size of the largest piece they ever held
MAX_ANSWER_BYTES = (
    65536  # of what OpenSSL says by itself while nothing can be or is sent; a record may be before it
)


class TlsStream(QuickStream):
    """One TLS connection over `transport`, which it owns. One task may read while another writes.

    `do_handshake` must come first. `https_compatible` as in Trio: an end without TLS's farewell counts as an end,
    and none is sent.
    """

    __slots__ = (
        "_failure",
        "_https_compatible",
        "_incoming",
        "_is_at_end",
        "_is_broken",
        "_is_sending",
        "_is_shaken",
        "_may_hold_data",
        "_outgoing",
        "_ssl",
        "_unsent",
        "transport",
    )

    def __init__(
        self,
        transport: SocketStream,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        server_side: bool = False,
        https_compatible: bool = False,
    ) -> None:
        self.transport = transport
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._https_compatible = https_compatible
        self._is_shaken = False
        self._is_broken = False
        self._is_at_end = False  # nothing more can be read
        self._may_hold_data = True  # something was received that has not been read
        self._failure: ssl.SSLError | None = None  # of the next read
        self._is_sending = False  # a task is, and waits
        self._unsent = b""  # encrypted; before what is in `_outgoing`

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent or self._outgoing.pending)

    def selected_alpn_protocol(self) -> str | None:
        return self._ssl.selected_alpn_protocol()

    def peer_certificate(self) -> Mapping[str, Any]:
        """The peer's certificate as `ssl` tells it; nothing if it was not verified."""
        return self._ssl.getpeercert() or {}

    async def do_handshake(self) -> None:
        """Raises: BrokenResourceError, caused by the SSLError that says why."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                self._take(await self.transport.receive_some(DEFAULT_RECEIVE_BYTES))
            except ssl.SSLError as exc:  # a certificate that is not trusted, too
                self._fail(exc)
            else:
                break
        # A server's session tickets wait for its first data: a client that closes before it reads would lose them,
        # and with them what it had just sent, to a reset.
        if not (self._ssl.server_side and self._ssl.version() == "TLSv1.3"):
            await self._flush()
        self._is_shaken = True

    # -- writing

    def try_send(self, data: bytes | bytearray | memoryview) -> int:
        self._check()
        if self._is_sending or not self._push():
            return 0
        size = len(data)
        if size <= PIECE_BYTES:  # nearly always
            if not size:
                return 0
            taken = self._encrypt(data)
            self._push()
            return taken
        taken = 0
        with memoryview(data) as view:
            while taken < size:
                with view[taken : taken + PIECE_BYTES] as piece:
                    taken += self._encrypt(piece)
                if not self._push():
                    break
        return taken

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._check()
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        await trio.lowlevel.checkpoint_if_cancelled()
        taken = self.try_send(data)
        if taken == len(data) and not self.has_unsent:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        with memoryview(data) as view:
            while True:
                await self._flush()
                if taken == len(view):
                    return
                with view[taken:] as remaining:
                    taken += self.try_send(remaining)

    async def wait_send_all_might_not_block(self) -> None:
        self._check()
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        await self._flush()
        await self.transport.wait_send_all_might_not_block()

    def _encrypt(self, data: bytes | bytearray | memoryview) -> int:
        try:
            return self._ssl.write(data)
        except ssl.SSLError as exc:
            self._fail(exc)

    def _push(self) -> bool:
        """What is encrypted goes to the kernel, as far as it takes it at once; whether that was all."""
        unsent = self._unsent
        if self._outgoing.pending:
            unsent = unsent + self._outgoing.read() if unsent else self._outgoing.read()
        if not unsent:
            return True
        self._unsent = unsent  # should the next step raise
        sent = self.transport.try_send(unsent)
        self._unsent = unsent[sent:]
        return sent == len(unsent)

    async def _flush(self) -> None:
        """All of it. No checkpoint if there is no need to wait."""
        self._is_sending = True
        try:
            while not self._push():
                await self.transport.wait_send_all_might_not_block()
        finally:
            self._is_sending = False

    # -- reading

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        most = DEFAULT_RECEIVE_BYTES if max_bytes is None else index(max_bytes)
        if most < 1:
            raise ValueError("max_bytes must be at least 1")
        self._check()
        if self._may_hold_data:
            await trio.lowlevel.checkpoint_if_cancelled()
            data = self._decrypt(most)
            if data is not None:
                await trio.lowlevel.cancel_shielded_checkpoint()
                return data
        while True:
            self._take(await self.transport.receive_some(DEFAULT_RECEIVE_BYTES))
            data = self._decrypt(most)
            if data is not None:
                return data

    def _take(self, received: bytes) -> None:
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()

    def _decrypt(self, most: int) -> bytes | None:
        """What is there, of several records too; b"" at the end, None if there is nothing yet."""
        if self._failure is not None:
            self._fail(self._failure)
        pieces: list[bytes] = []
        self._may_hold_data = True
        try:
            while not self._is_at_end:
                wanted = min(most, PIECE_BYTES)
                n_bytes: int = self._ssl.read(wanted, SCRATCH)  # type: ignore[assignment]  # told of no buffer
                if not n_bytes:
                    self._is_at_end = True
                    break
                pieces.append(bytes(SCRATCH[:n_bytes]))
                most -= n_bytes
                if (
                    n_bytes < wanted and not self._incoming.pending
                ):  # less: the record's last, and no other is here
                    self._may_hold_data = False
                    break
                if most <= 0:
                    break
        except ssl.SSLWantReadError:
            self._may_hold_data = False
            if not pieces:
                self._answer()
                return None
        except ssl.SSLError as exc:
            if self._https_compatible and is_end(exc):
                self._is_at_end = True
            elif pieces:
                self._failure = exc  # the next call's
            else:
                self._fail(exc)
        if self._outgoing.pending:
            self._answer()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _answer(self) -> None:
        """What OpenSSL has to say to what was read. A server's can wait for its next data, but not for ever."""
        if not self._outgoing.pending:
            return
        if not self._ssl.server_side and not self._is_sending:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # reading may still go on
                self._push()
        if len(self._unsent) + self._outgoing.pending > MAX_ANSWER_BYTES:
            self._is_broken = True
            raise trio.BrokenResourceError("the peer keeps TLS busy and says nothing")

    # -- the end

    async def aclose(self) -> None:
        """With TLS's farewell, unless `https_compatible`; the peer's is not waited for."""
        is_fine = self._is_shaken and not self._is_broken and not self.transport.is_closed
        try:
            if is_fine and not self._https_compatible and not self._is_sending:
                with suppress(ssl.SSLError):  # ours is written; it misses the peer's
                    self._ssl.unwrap()
                await self._flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # there is nobody to say it to
        finally:
            self.transport.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """At once, without a farewell."""
        self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    def _fail(self, exc: ssl.SSLError) -> NoReturn:
        """The alert that says why goes out, if it can; not to a client that would not understand it."""
        self._is_broken = True
        if not self._is_sending and not is_plain_http(exc):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                self._push()
        raise trio.BrokenResourceError from exc

    def _check(self) -> None:
        if self.transport.is_closed:
            raise trio.ClosedResourceError("this stream is closed")
        if self._is_broken:
            raise trio.BrokenResourceError("TLS has failed")
        if not self._is_shaken:
            raise LocalProtocolError("used before its TLS handshake")


def is_plain_http(exc: BaseException | None) -> bool:
    """A server's handshake failed because the client speaks HTTP without TLS. OpenSSL looks at its first letters."""
    return isinstance(exc, ssl.SSLError) and exc.reason == "HTTP_REQUEST"


def is_end(exc: ssl.SSLError) -> bool:
    """The connection ended without TLS's farewell."""
    return isinstance(exc, ssl.SSLEOFError) or exc.reason == "UNEXPECTED_EOF_WHILE_READING"
