"""`python3 build pictures`: what `/status` looks like, taken in a real browser from real runs of dist/mcp-edge.pyz.

A hub, a box that is well and one that is not (the servers are toys with their faults switched on), each looked at wide
and narrow, light and dark. The pictures go to packaging/pictures.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import browser
import machine
import png
import pyz
from browser import Look
from places import PICTURES, PYZ, ROOT
from say import Stop, line, progress

TOY = ROOT / "tests" / "support" / "toy_server.py"
TOKEN = "0123456789abcdef0123456789abcdef"
WIDE, NARROW = 1280, 390
LOOKS = {
    "box-wide-light": ("box", Look(WIDE)),
    "box-wide-dark": ("box", Look(WIDE, is_dark=True)),
    "box-narrow-light": ("box", Look(NARROW)),
    "box-narrow-dark": ("box", Look(NARROW, is_dark=True)),
    "well-wide-light": ("well", Look(WIDE)),
    "hub-wide-dark": ("hub", Look(WIDE, is_dark=True)),
    "hub-narrow-light": ("hub", Look(NARROW)),
}
START_S, SETTLE_S, LIMIT_BYTES = 60.0, 20.0, 200_000


def main(args: Sequence[str]) -> int:
    if args:
        raise Stop("pictures takes no arguments")
    if reason := machine.missing_command("chromium", "chromium"):
        raise Stop(reason)
    pyz.make_current()
    PICTURES.mkdir(parents=True, exist_ok=True)
    with progress("taking pictures of /status"), demonstration() as pages, browser.running() as window:
        for name, (page, look) in LOOKS.items():
            seen = window.see(f"{pages[page]}/status", look)
            if seen.complaints or seen.width > look.width:
                raise Stop(
                    f"{name}: {seen.width} pixels wide; {'; '.join(seen.complaints) or 'no complaints'}"
                )
            picture = png.reduced(seen.picture)
            (PICTURES / f"status-{name}.png").write_bytes(picture)
            line(f"status-{name}.png: {seen.width} x {seen.height}, {len(picture)} bytes")
            if len(picture) > LIMIT_BYTES:
                raise Stop(f"{name} is over {LIMIT_BYTES} bytes")
    return 0


def toy(name: str, *switches: str, **settings: Any) -> str:
    command = json.dumps([sys.executable, str(TOY), *switches])
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join([f"[servers.{name}]", f"command = {command}", *lines, ""])


def base(name: str) -> str:
    return f'name = "{name}"\n[gateway]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'


def hub_config() -> str:
    names = "".join(
        f'[hub.edges.{name}]\ntoken_sha256 = "{hashlib.sha256((TOKEN + name).encode()).hexdigest()}"\n'
        for name in ("plant-7", "plant-8", "plant-9")
    )
    return base("hq") + '[hub]\nlisten = "127.0.0.1:0"\n' + names + toy("directory")


def uplink(hub: str, name: str, folder: Path) -> str:
    token = folder / f"{name}.token"
    token.write_text(TOKEN + name)
    token.chmod(0o600)
    return f'[uplinks.hq]\ndialect = "contextforge"\nurl = "{hub}"\ntoken_file = "{token}"\npublish = "all"\n'


def box_config(hub: str, folder: Path) -> str:
    """A box that is not well, in most of the ways there are."""
    retry = "{ first_s = 40, limit_s = 60 }"
    return (
        base("plant-7")
        + toy("files")
        + toy("git", required=True)
        + toy("plc", "deaf", required=True, probe_s=1)
        + toy("camera", "mute=tools/list", start_timeout_s=1)
        + toy(
            "printer", "exit=3", "stderr=usb: cannot claim interface 0 of 04b8:0202, another driver has it"
        ).rstrip()
        + f"\nrestart = {retry}\n"
        + f'[servers.historian]\nurl = "http://127.0.0.1:1/mcp"\nreconnect = {retry}\n'
        + uplink(hub, "plant-7", folder)
        + '[uplinks.backup]\ndialect = "long-poll"\nurl = "http://127.0.0.1:1"\ntoken_env = "HOME"\n'
        + f'servers = ["git"]\nreconnect = {retry}\n'
    )


@contextmanager
def demonstration() -> Iterator[dict[str, str]]:
    """All of it, running; the admin listeners' URLs by page."""
    with tempfile.TemporaryDirectory(prefix="mcp-edge-pictures-") as name, ExitStack() as stack:
        folder = Path(name)

        def start(config: str) -> dict[str, str]:
            return stack.enter_context(running(config, folder))

        hub = start(hub_config())
        box = start(box_config(hub["edges"], folder))
        busy = threading.Thread(target=call_for_ever, args=(box["endpoint"], "plc__echo"), daemon=True)
        busy.start()
        well = start(
            base("plant-8")
            + toy("files")
            + toy("git", required=True)
            + toy("plc")
            + uplink(hub["edges"], "plant-8", folder)
        )
        with running(base("plant-9") + toy("files") + uplink(hub["edges"], "plant-9", folder), folder):
            time.sleep(1)
        time.sleep(SETTLE_S)
        yield {"hub": hub["status"], "box": box["status"], "well": well["status"]}


def call_for_ever(endpoint: str, tool: str) -> None:
    """A call that a server which has stopped reading does not answer."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
    fields = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    request = urllib.request.Request(endpoint, json.dumps(message).encode(), fields)
    with suppress(OSError):
        urllib.request.urlopen(request, timeout=600).read()


@contextmanager
def running(config: str, folder: Path) -> Iterator[dict[str, str]]:
    """mcp-edge with this config; what it says of itself: `endpoint`, `status`, `edges` (URLs)."""
    name = re.sub(r'^name = "(.*?)".*', r"\1.toml", config, flags=re.DOTALL)
    (folder / name).write_text(config)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(PYZ), "run", "-c", name, "--log-level", "error"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    said: dict[str, str] = {}
    try:
        assert process.stdout is not None
        for text in process.stdout:
            if found := re.match(r" +(endpoint|edges|status) +(\S+)", text):
                said[found[1]] = found[2].removesuffix("/status")
            if "status" in said:
                break
        else:
            raise Stop("mcp-edge ended instead of getting ready")
        yield said
    finally:
        process.terminate()
        process.communicate(timeout=START_S)
