"""A Chromium without a window, spoken to over two pipes: opens pages, measures them, takes pictures.

Source: Chrome DevTools Protocol, over `--remote-debugging-pipe`: JSON messages that end in a zero byte, to the browser
on descriptor 3, from it on 4. Needs nothing but the standard library and the program itself.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-quic", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--no-proxy-server",
)  # fmt: skip
LIMIT_S = 60.0
# Puts the two descriptors that come first where the browser looks for them, starts it, and ends with all that it has
# started: its helpers leave late and in sessions of their own, so orphans come here (PR_SET_CHILD_SUBREAPER).
TRAMPOLINE = """
import ctypes, fcntl, os, signal, sys
to_it, from_it = (fcntl.fcntl(int(word), fcntl.F_DUPFD, 10) for word in sys.argv[1:3])
os.dup2(to_it, 3)
os.dup2(from_it, 4)
os.closerange(5, 256)
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
browser = os.fork()
if browser == 0:
    os.execv(sys.argv[3], sys.argv[3:])
os.closerange(3, 5)
while os.waitpid(-1, 0)[0] != browser:
    pass
while True:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        for pid in file.read().split():
            os.kill(int(pid), signal.SIGKILL)
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        break
"""


class BrowserFailed(Exception):
    """It ended, did not answer, or answered with an error; the text says what."""


class Look(NamedTuple):
    """How a page is looked at: the width of the window, in CSS pixels, and the colours that the reader prefers."""

    width: int
    is_dark: bool = False
    scale: float = 1.0


class Seen(NamedTuple):
    """A page as it was seen: its size, what the browser complained of, and a picture of all of it (PNG)."""

    width: int
    height: int
    complaints: list[str]
    picture: bytes


def find() -> str | None:
    """The program, if this machine has it."""
    return shutil.which("chromium")


class Browser:
    """One that runs; `running` makes it."""

    def __init__(self, process: subprocess.Popen[bytes], to_it: int, from_it: int) -> None:
        self._process = process
        self._to_it = to_it
        self._from_it = from_it
        self._buffer = b""
        self._number = 0
        self._complaints: list[str] = []

    def see(self, url: str, look: Look) -> Seen:
        """Open a page and look at all of it. Raises: BrowserFailed."""
        self._complaints = []
        target = self.ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]

        def ask(method: str, **params: Any) -> dict[str, Any]:
            return self.ask(method, params, session)

        for domain in ("Page", "Log", "Runtime"):
            ask(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if look.is_dark else "light"}
        ask("Emulation.setEmulatedMedia", features=[scheme])
        window = {
            "width": look.width,
            "height": 900,
            "deviceScaleFactor": look.scale,
            "mobile": look.width < 600,
        }
        ask("Emulation.setDeviceMetricsOverride", **window)
        answer = ask("Page.navigate", url=url)
        if answer.get("errorText"):
            raise BrowserFailed(f"{url}: {answer['errorText']}")
        self._wait_for("Page.loadEventFired")
        measure = "[document.documentElement.scrollWidth, document.body.scrollHeight].join(' ')"
        size = ask("Runtime.evaluate", expression=measure)["result"]["value"]
        width, height = map(int, size.split())
        ask("Emulation.setDeviceMetricsOverride", **(window | {"height": height}))
        picture = ask("Page.captureScreenshot", format="png")["data"]
        self.ask("Target.closeTarget", {"targetId": target})
        return Seen(width, height, self._complaints, base64.b64decode(picture))

    def ask(self, method: str, params: Mapping[str, Any], session: str | None = None) -> dict[str, Any]:
        """One command, and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to_it, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserFailed(f"{method}: {answer['error']}")
                result = answer["result"]
                assert isinstance(result, dict)
                return result

    def _wait_for(self, event: str) -> None:
        while self._next().get("method") != event:
            pass

    def _next(self) -> dict[str, Any]:
        give_up = time.monotonic() + LIMIT_S
        while b"\0" not in self._buffer:
            left = give_up - time.monotonic()
            if left <= 0 or not select.select([self._from_it], [], [], left)[0]:
                raise BrowserFailed(f"no answer in {LIMIT_S:g} s")
            chunk = os.read(self._from_it, 1_000_000)
            if not chunk:
                raise BrowserFailed("it ended")
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if message.get("method") == "Log.entryAdded":
            entry = message["params"]["entry"]
            if "favicon" not in str(entry.get("url")):  # which nobody asked for
                self._complaints.append(str(entry["text"]))
        return message


@contextmanager
def running() -> Iterator[Browser]:
    """A browser with a new, empty profile. Raises: BrowserFailed if there is none."""
    program = find()
    if program is None:
        raise BrowserFailed("there is no Chromium on this machine")
    with tempfile.TemporaryDirectory(prefix="mcp-edge-browser-", ignore_cleanup_errors=True) as folder:
        theirs_in, to_it = os.pipe()
        from_it, theirs_out = os.pipe()
        flags = [*FLAGS, f"--user-data-dir={Path(folder, 'profile')}"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # it refuses to be root with one
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", TRAMPOLINE, str(theirs_in), str(theirs_out), program, *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs_in, theirs_out),
            start_new_session=True,
            env={**os.environ, "HOME": folder},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        browser = Browser(process, to_it, from_it)
        try:
            yield browser
        finally:
            with suppress(BrowserFailed, OSError):
                browser.ask("Browser.close", {})
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(to_it)
            os.close(from_it)
