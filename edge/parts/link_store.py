"""Session ids of polling links, kept over restarts: their gateways never forget one, and send calls to dead ones.

One small file a link, readable by us only: who has the id can answer in our name. A directory that cannot be used
costs no link, only the memory of it.
"""

import contextlib
import hashlib
import logging
import os
from pathlib import Path

log = logging.getLogger("edge.link")

MAX_CHARS = 256


class LinkStore:
    """Ids by link and gateway. `directory` None: nothing is kept."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._has_complained = False

    def load(self, link: str, url: str) -> str | None:
        """What was saved last, if it is fit to be used."""
        path = self._path(link, url)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                text = file.read(MAX_CHARS + 1).decode("ascii")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as exc:
            self._complain(exc)
            return None
        return text if 0 < len(text) <= MAX_CHARS and text.isprintable() and " " not in text else None

    def save(self, link: str, url: str, session: str | None) -> None:
        """Keep it; None: forget it. The file is replaced whole, so that a crash leaves the old or the new one."""
        path = self._path(link, url)
        if path is None:
            return
        try:
            if session is None:
                path.unlink(missing_ok=True)
                return
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_suffix(".new")
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(session)
            fresh.replace(path)
        except OSError as exc:
            self._complain(exc)

    def _path(self, link: str, url: str) -> Path | None:
        if self._directory is None:
            return None
        name = hashlib.sha256(f"{link}\0{url}".encode()).hexdigest()[:32]  # a URL may hold a secret
        return self._directory / f"{name}.session"

    def _complain(self, exc: Exception) -> None:
        if not self._has_complained:
            self._has_complained = True
            reason = exc.strerror if isinstance(exc, OSError) else "not a session id"
            log.warning(
                "saved sessions cannot be used", extra={"path": str(self._directory), "reason": reason}
            )
