"""The control socket: a Unix socket for root and our own user, by which `mcp-edge reload` finds the running process.

Its default place need not be usable everywhere: then it is said once, and the rest runs without it.
"""

import logging
import os
from pathlib import Path

import trio

from edge.errors import EdgeError, leaves
from edge.parts.listener import Listener

log = logging.getLogger("edge.control")


class Control:
    """A part. `is_asked_for`: the config names the socket, so it has to work."""

    def __init__(self, listener: Listener, address: str, *, is_asked_for: bool) -> None:
        self._listener = listener
        self._folder = Path(address.removeprefix("unix:")).parent
        self._is_asked_for = is_asked_for

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Raises: EdgeError, maybe in a group, if a socket that was asked for cannot be listened on."""
        if self._is_asked_for:
            await self._listener.run(task_status=task_status)
            return
        reason = prepared(self._folder)
        async with trio.open_nursery() as nursery:
            if reason is None:
                try:
                    intake: trio.CancelScope = await nursery.start(self._listener.run)
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
