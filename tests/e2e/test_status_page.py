"""The status page in a real browser, wide and narrow, light and dark: nothing is cut off, nothing is forbidden."""

import json
import sys
from collections.abc import Iterator

import browser
import png
import pytest
from browser import Browser, Look

from tests.support.appliance import Appliance, running, toml_list
from tests.support.peers import ROOT, requires
from tests.support.processes import eventually

pytestmark = requires("pyz", "chromium")
TOY = ROOT / "tests" / "support" / "toy_server.py"
LONG = "x" * 400  # a word without an end
LOOKS = [Look(width, is_dark) for width in (1280, 768, 390, 320) for is_dark in (False, True)]


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser.running() as window:
        yield window


@pytest.fixture(scope="module")
def appliance() -> Iterator[Appliance]:
    """One server that is well and two that are not, one of which says too much; a link to nowhere."""
    config = "".join(
        f"[servers.{name}]\ncommand = {toml_list([sys.executable, TOY, *switches])}\n"
        for name, switches in (("good", []), ("bad", ["exit=3", f"stderr={LONG}"]), ("mute", ["refuse"]))
    )
    config += f"""[uplinks.hq]
dialect = "long-poll"
url = "http://127.0.0.1:1/{LONG}"
token_env = "HOME"
servers = ["good"]
"""
    with running(config) as appliance:
        eventually(lambda: json.dumps(appliance.health()).count("degraded") >= 3, appliance.said)
        yield appliance


@pytest.mark.parametrize(
    "look", LOOKS, ids=lambda look: f"{look.width}-{'dark' if look.is_dark else 'light'}"
)
def test_all_of_the_page_is_seen_without_scrolling_sideways(
    window: Browser, appliance: Appliance, look: Look
) -> None:
    seen = window.see(f"{appliance.admin}/status", look)
    assert seen.complaints == []
    assert seen.width == look.width
    width, height, pixels = png.decoded(seen.picture)
    assert (width, height) == (look.width, seen.height)
    paper = sum(pixels[:3]) / 3
    assert paper < 60 if look.is_dark else paper > 200
