"""The control socket: a Unix socket for root and our own user, by which `mcp-edge reload` finds the running process.

It is at the place that the config names, and at the usual one as well: whoever has just written another place into
the file knows only that one and the usual one, not where we still are. The place that was asked for has to work. The
usual one need not be usable everywhere: then it is said once, and the rest runs without it.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from edge.config.diff import ControlSpec
from edge.errors import EdgeError, leaves
from edge.health import Status
from edge.metrics import Metrics
from edge.net.http_server import Handler, HttpLimits
from edge.net.listen import open_listeners
from edge.parts.listener import Acceptor, Listener

MAX_CONNECTIONS = 16
MAX_BODY_BYTES = 65_536

log = logging.getLogger("edge.control")


class Control:
    """A part. Its `status` is ready while somebody can ask it: at the place that was asked for, or, if none was, at
    the usual one; otherwise it is failed, and says why."""

    def __init__(
        self,
        spec: ControlSpec,
        handler: Handler,
        *,
        status: Status,
        metrics: Metrics,
        open_address: Callable[[str], Awaitable[Sequence[Acceptor]]] = open_listeners,
    ) -> None:
        self._spec = spec
        self._open_address = open_address
        self.listener = Listener(
            "control",
            spec.places,
            None,
            handler,
            HttpLimits(max_body_bytes=MAX_BODY_BYTES),
            max_connections=MAX_CONNECTIONS,
            status=status,
            metrics=metrics,
            open_address=self._open,
        )

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Raises: EdgeError, maybe in a group, if a place that was asked for cannot be listened on."""
        if self._spec.asked_for:
            await self.listener.run(task_status=task_status)
            return
        async with trio.open_nursery() as nursery:
            try:
                intake: trio.CancelScope = await nursery.start(self.listener.run)
                task_status.started(intake)
                return
            except EdgeError as exc:
                reason = str(exc)
            except BaseExceptionGroup as group:
                reason = "; ".join(str(exc) for exc in leaves(group) if isinstance(exc, EdgeError))
                if not reason:
                    raise
            log.warning("no control socket, so `mcp-edge reload` finds nobody", extra={"reason": reason})
            with trio.CancelScope() as intake:
                task_status.started(intake)
                await trio.sleep_forever()

    async def _open(self, address: str) -> Sequence[Acceptor]:
        """Raises: EdgeError, unless another place was asked for that has been opened."""
        spec = self._spec
        if address != spec.usual:
            return await self._open_address(address)
        try:
            reason = prepared(Path(address.removeprefix("unix:")).parent)
            if reason is not None:
                raise EdgeError(
                    f"cannot listen on {address}: {reason}; `[admin] control` names another place"
                )
            return await self._open_address(address)
        except EdgeError as exc:
            if not spec.asked_for:
                raise
            extra = {"place": spec.asked_for, "reason": str(exc)}
            log.warning("the control socket is only where the config has it", extra=extra)
            return ()


def prepared(folder: Path) -> str | None:
    """Make the folder if it is not there; why it cannot be used, or None. Nobody else may write to it."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
    except OSError as exc:
        return f"{folder}: {exc.strerror}"
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        return f"{folder} can be written to by others"
    return None
