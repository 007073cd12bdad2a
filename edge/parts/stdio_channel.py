"""A conversation with a server that is a child process, over its stdin and stdout, one message a line.

Four tasks beside the body: the reader hands lines to the channel, the one writer joins what is due and writes
it at once, the third takes stderr to our log, the watcher ends it all when the child or its stdout has ended.
Source: MCP 2025-11-25, "Transports", stdio. What a server prints on stdout besides is skipped and counted.
"""

import codecs
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from edge.config.model import StdioServerConfig
from edge.errors import BadMessage, UpstreamError
from edge.health import Status
from edge.metrics_servers import ServerMetrics, ServerProcesses
from edge.net.cgroup import Delegated
from edge.net.child import Child, running
from edge.net.command import NotStarted
from edge.parts.channel import Channel, Connect, Ended, Inbound
from edge.parts.peer_channel import Outbox, PeerChannel
from edge.proto.framing import LineDecoder, Oversized
from edge.proto.jsonrpc import decode, id_at_edges
from edge.redaction import Redactor

MESSAGES_PER_TURN = 16  # then other tasks have theirs
LAST_WORDS_S = 0.25  # after exit: what is still in the pipes is read, but a grandchild may hold them open
STDERR_LINES = 20
STDERR_LINES_PER_S = 200
STDERR_LINE_CHARS = 500
NOISE_SHOWN = 3
NOISE_CHARS = 200


def connect_stdio(
    config: StdioServerConfig,
    *,
    metrics: ServerMetrics,
    log: logging.Logger,
    status: Status | None = None,
    cgroups: Delegated | None = None,
    redactor: Redactor | None = None,
) -> Connect:
    """The `Connect` of one child; with a `status`, its detail shows pid, memory, CPU time, pressure and last
    stderr lines.

    With `cgroups`, it gets one of its own there, at each start. Where what it prints is shortened or shown in pieces,
    `redactor` has taken the secrets out before.
    """
    if metrics.processes is None:  # else it is there already, and its sums go on
        metrics.processes = ServerProcesses()

    starts = trio.CapacityLimiter(1)  # one that hangs keeps its thread: this server's next one waits for it

    def connect(inbound: Inbound) -> AbstractAsyncContextManager[Channel]:
        return StdioConversation(
            config, inbound, metrics, log, status, cgroups, redactor or Redactor(), starts
        ).open()

    return connect


class StderrLog:
    """Bytes of stderr to log lines, each of bounded length and without secrets; the last ones are kept.

    Limits: STDERR_LINES_PER_S are logged and the others counted, or a flood would leave no time for anything else.
    Of a line without an end, so much is held back that a secret in it is whole.
    """

    def __init__(self, server: str, log: logging.Logger, redactor: Redactor | None = None) -> None:
        self._server = server
        self._log = log
        self._redactor = redactor or Redactor()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""
        self._second = -1
        self._n_logged = 0  # in this second
        self._n_left_out = 0
        self.last: list[str] = []

    def feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + self._decode(chunk)).split("\n")
        for line in lines[-STDERR_LINES_PER_S:]:
            self._add(line)
        self._n_left_out += max(0, len(lines) - STDERR_LINES_PER_S)
        held_back = self._redactor.longest
        if len(self._rest) > STDERR_LINE_CHARS + held_back:  # shown in pieces of what was read
            cut = self._redactor.boundary(self._rest, len(self._rest) - held_back)
            self._add(self._rest[:cut])
            self._rest = self._rest[cut:]

    def finish(self) -> None:
        """No more will come: a last line needs no line feed."""
        self._add(self._rest + self._decode(b"", True))
        self._rest = ""
        self._say_left_out()

    def _add(self, line: str) -> None:
        text = self._redactor.excerpt(line.rstrip(), STDERR_LINE_CHARS)
        if not text:
            return
        self.last.append(text)
        del self.last[:-STDERR_LINES]
        second = int(trio.current_time())
        if second != self._second:
            self._say_left_out()
            self._second, self._n_logged = second, 0
        if self._n_logged == STDERR_LINES_PER_S:
            self._n_left_out += 1
            return
        self._n_logged += 1
        self._log.info("server says", extra={"server": self._server, "line": text})

    def _say_left_out(self) -> None:
        if self._n_left_out:
            extra = {"server": self._server, "lines": self._n_left_out}
            self._log.info("server says more than is logged", extra=extra)
            self._n_left_out = 0


class StdioConversation:
    """From the start of one child to its end."""

    def __init__(
        self,
        config: StdioServerConfig,
        inbound: Inbound,
        metrics: ServerMetrics,
        log: logging.Logger,
        status: Status | None,
        cgroups: Delegated | None,
        redactor: Redactor,
        starts: trio.CapacityLimiter,
    ) -> None:
        self._config = config
        self._starts = starts
        self._redactor = redactor
        self._cgroups = cgroups
        self._metrics = metrics
        self._log = log
        self._status = status
        self._outbox = Outbox()
        self._channel = PeerChannel(config.name, self._outbox, inbound, metrics)
        self._stderr = StderrLog(config.name, log, redactor)
        self._doubt = (
            trio.Event()
        )  # a pipe has ended; mostly because the child has, and then its status says why
        self._stdout_ended = trio.Event()
        self._stderr_ended = trio.Event()
        self._ended: Ended | None = None
        self._noise_seen = 0
        self._processes = metrics.processes
        self._child: Child | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Channel]:
        """Raises Ended if the child cannot be started or does not live as long as the block."""
        config = self._config
        try:
            async with running(
                config.command,
                env=config.env,
                cwd=config.cwd,
                stop_grace_s=config.stop_grace_s,
                on_stderr=self._stderr.feed,
                on_left=self._say_left,
                limits=config.limits,
                cgroups=self._cgroups,
                name=config.name,
                limiter=self._starts,
            ) as child:
                self._child = child
                if self._processes is not None:
                    self._processes.memory_limit_bytes = self._config.limits.memory_bytes
                    self._processes.processes_limit = self._config.limits.processes
                    self._processes.begun(child.usage)
                if self._status is not None:
                    self._status.detail.update(
                        pid=child.pid,
                        stderr=self._stderr.last,
                        memory_bytes=lambda: child.usage().memory_bytes,
                        cpu_s=lambda: round(child.usage().cpu_s, 3),
                        stalled_s=lambda: dict(child.usage().stalled_s),
                    )
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._read, child)
                        nursery.start_soon(self._write, child)
                        nursery.start_soon(self._read_stderr, child)
                        nursery.start_soon(child.sweep)
                        nursery.start_soon(child.keep_within_limits)
                        nursery.start_soon(self._watch, child, nursery.cancel_scope)
                        yield self._channel
                        nursery.cancel_scope.cancel()
                except* UpstreamError:
                    if self._ended is None:
                        raise
                    # Else what the body lost by the end of the child: the end itself is the news, below.
                finally:
                    # Only now that the body has left: whoever is told that a call was lost and tries again
                    # finds a server that is known to be down.
                    self._channel.lost("stopped" if self._ended is None else self._ended.reason)
        except NotStarted as exc:
            raise Ended(config.name, "could not be started", str(exc)) from exc
        finally:
            self._stderr.finish()
            self._metrics.outbox_bytes = 0
            if self._child is not None and self._processes is not None:
                self._processes.ended(self._child.usage)
            if self._status is not None:
                for what in ("pid", "memory_bytes", "cpu_s", "stalled_s"):
                    self._status.detail.pop(what, None)
        if self._ended is not None:
            raise self._ended

    async def _read(self, child: Child) -> None:
        decoder = LineDecoder(self._config.limits.max_line_bytes)
        metrics, receive = self._metrics, self._channel.receive
        while chunk := await child.stdout.read_some():
            metrics.bytes_received += len(chunk)
            lines = decoder.feed(chunk)
            for number, line in enumerate(lines):
                if number % MESSAGES_PER_TURN == MESSAGES_PER_TURN - 1:
                    await trio.lowlevel.checkpoint()
                if isinstance(line, Oversized):
                    metrics.oversized_lines += 1
                    extra = {"server": self._config.name, "bytes": line.n_bytes}
                    self._log.warning("line over the limit, skipped", extra=extra)
                    self._channel.oversized(id_at_edges(line.head, line.tail), line.n_bytes)
                    continue
                try:
                    message = decode(line)
                except BadMessage as exc:
                    self._noise(line, exc)
                    self._channel.garbled(line, exc)
                else:
                    receive(message)
        self._stdout_ended.set()
        self._doubt.set()

    async def _write(self, child: Child) -> None:
        metrics = self._metrics

        def try_write(line: bytes) -> bool:
            if not child.stdin.try_write(line + b"\n"):
                return False
            metrics.bytes_sent += len(line) + 1
            return True

        self._outbox.try_write = try_write
        try:
            while True:
                data = b"\n".join([*await self._outbox.take(), b""])
                metrics.outbox_bytes = len(data)
                await child.stdin.write_all(data)
                metrics.outbox_bytes = 0
                metrics.bytes_sent += len(data)
        except trio.BrokenResourceError:
            self._doubt.set()  # it closed its stdin: it cannot be asked any more

    async def _read_stderr(self, child: Child) -> None:
        await child.pump_stderr()
        self._stderr_ended.set()

    async def _watch(self, child: Child, scope: trio.CancelScope) -> None:
        """Wait for the first sign of the end, then for its cause, and end the conversation."""
        async with trio.open_nursery() as either:
            either.start_soon(self._end_of_a_pipe, either.cancel_scope)
            await child.wait()
            either.cancel_scope.cancel()
        with trio.move_on_after(LAST_WORDS_S):
            await child.wait()
            await self._stdout_ended.wait()  # answers it wrote before it exited are answers
            await self._stderr_ended.wait()
        reason = child.exit_text() or "closed its stdin or stdout"
        self._stderr.finish()
        self._ended = Ended(self._config.name, reason, self._stderr.last[-1] if self._stderr.last else "")
        scope.cancel()

    async def _end_of_a_pipe(self, scope: trio.CancelScope) -> None:
        await self._doubt.wait()
        scope.cancel()

    def _noise(self, line: bytes, why: BadMessage) -> None:
        self._metrics.noise_lines += 1
        self._noise_seen += 1
        if self._noise_seen <= NOISE_SHOWN:
            extra = {
                "server": self._config.name,
                "line": self._redactor.excerpt(line.decode(errors="replace"), NOISE_CHARS),
                "reason": str(why),
            }
            self._log.warning("not a message on stdout, skipped", extra=extra)

    def _say_left(self) -> None:
        self._log.error("processes of the server could not be ended", extra={"server": self._config.name})
