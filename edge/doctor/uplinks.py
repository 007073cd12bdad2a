"""Each connection out: the way to its hub, then a knock, the same first words that a link says, and goodbye.

A link that is up is not disturbed. ContextForge's dialect registers only after the WebSocket is open, so it is closed
before that. In the others opening is registering: there we knock as `NAME-doctor`.
"""

import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import urlsplit

import trio

from edge.config.common import MAX_NAME_CHARS
from edge.config.model import EdgeConfig, UplinkConfig
from edge.config.rules import dotted
from edge.doctor.finding import Check, Report
from edge.doctor.way import Target, go
from edge.errors import EdgeError
from edge.net.dial import proxy_for
from edge.net.file_reader import FileReader
from edge.net.http_client import split_url
from edge.net.tls import client_context
from edge.parts.kept_link import RunningCarrier
from edge.parts.link import Link
from edge.parts.link_store import LinkStore
from edge.parts.pump import Pump
from edge.parts.uplink_way import Way
from edge.proto.dialect import (
    CloseCarrier,
    Command,
    Dialect,
    Event,
    LinkState,
    Lost,
    Opened,
    Ready,
    Refused,
    Replied,
    Start,
    Stop,
)

SECTION = "uplinks"
CLOSE_S = 2.0
ELSE = 'see `mcp-edge help troubleshooting`, "A link out is not up"'
# Where a dialect has no advice of its own, as the hub is ours and has said what it minds.
BY_STATUS = {
    401: "the hub has to know this token: token_file, token_env here, token_sha256 there (`mcp-edge help hub`)",
    403: "the hub has to allow it: the token's edge, its name and dialects there (`mcp-edge help hub`)",
    404: "the path of url, or the dialect is not served there",
}
SKEW_S = 60.0


def uplink_checks(
    config: EdgeConfig,
    box: str,
    *,
    env: Mapping[str, str],
    read_secret: Callable[[str], str],
    learn: Callable[[str], None],
) -> Iterator[Check]:
    """One for each uplink; of its links the first stands for all, as they differ in nothing but the name."""
    for name, uplink in config.uplinks.items():
        links = uplink.links(box, sorted(config.servers))
        look = partial(
            look_at_uplink,
            uplink=uplink,
            link=next(iter(links), box),
            env=env,
            read_secret=read_secret,
            learn=learn,
        )
        yield Check(SECTION, dotted(("uplinks", name)), look)


async def look_at_uplink(
    report: Report,
    uplink: UplinkConfig,
    link: str,
    *,
    env: Mapping[str, str],
    read_secret: Callable[[str], str],
    learn: Callable[[str], None],
) -> None:
    scheme = urlsplit(uplink.url).scheme.lower()
    origin, _ = split_url(uplink.url if scheme.startswith("http") else f"http{uplink.url[2:]}")
    try:
        proxy = proxy_for(uplink.proxy, scheme, origin.host, origin.port, env)
    except EdgeError as exc:
        report.problem(str(exc), "set proxy, or the variable: http://USER:${PASSWORD}@HOST:PORT")
        return
    own = uplink.tls
    tls = None
    if uplink.is_tls:
        tls = (
            client_context
            if own is None
            else lambda: client_context(own.ca_file, own.verify, own.cert, own.key)
        )
    if not await go(report, Target(uplink.name, origin, proxy, tls, uplink.connect_timeout_s)):
        return
    name = link if uplink.dialect == "contextforge" else f"{link[: MAX_NAME_CHARS - 7]}-doctor"
    way = Way(
        uplink,
        name,
        "mcp-edge doctor",
        env=env,
        read_secret=read_secret,
        learn=learn,
        files=FileReader(),
        store=LinkStore(None),
        new_id=lambda: secrets.token_hex(16),
        rng=random.random,
    )
    try:
        dialect, carrier = await way()
    except EdgeError as exc:
        report.problem(str(exc), "see `mcp-edge help uplinks`")
        return
    await knock(report, dialect, carrier, opening_is_enough=uplink.dialect == "contextforge")


async def knock(
    report: Report, dialect: Dialect, carrier: RunningCarrier, *, opening_is_enough: bool
) -> None:
    """Begin a link, and leave as soon as the other end has let us in."""
    knocking = Knocking(dialect, leaves_at_opening=opening_is_enough)
    began = time.monotonic()

    def ready(_: Ready) -> tuple[Link, int] | None:
        knocking.was_let_in = True
        pump.feed(Stop("mcp-edge doctor has seen enough"))
        return None

    pump = Pump(knocking, carrier, on_ready=ready, log_extra={})
    is_closed = trio.Event()

    async def run_carrier() -> None:
        await carrier.run(pump.feed)
        is_closed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_carrier)
        pump.feed(Start())
        lost = await pump.run()
        carrier.perform(CloseCarrier())
        with trio.move_on_after(CLOSE_S):
            await is_closed.wait()
        nursery.cancel_scope.cancel()
    if knocking.was_let_in:
        report.ok("the hub has let us in", took_s=time.monotonic() - began)
    else:
        report.problem(lost.reason, lost.advice or BY_STATUS.get(knocking.status, ELSE))
    tell_skew(report, knocking.headers)


def tell_skew(report: Report, headers: Mapping[str, str]) -> None:
    """How far the other end's clock is from ours, if it says so."""
    try:
        theirs = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return
    if theirs.tzinfo is None:
        return
    off_s = (datetime.now(UTC) - theirs).total_seconds()
    if abs(off_s) > SKEW_S:
        ahead = "ahead of" if off_s > 0 else "behind"
        text = f"this machine's clock is {abs(off_s):.0f} s {ahead} the hub's"
        report.warning(text, "set it, and run an NTP client: tokens and certificates are judged by it")


class Knocking:
    """A dialect that remembers the first answer's head, and may leave as soon as the other end has opened."""

    def __init__(self, dialect: Dialect, *, leaves_at_opening: bool) -> None:
        self.headers: Mapping[str, str] = {}
        self.status = 0
        self.was_let_in = False
        self._dialect = dialect
        self._leaves = leaves_at_opening

    @property
    def state(self) -> LinkState:
        return self._dialect.state

    @state.setter
    def state(self, state: LinkState) -> None:
        raise AssertionError("only the dialect itself changes its state")

    @property
    def own(self) -> bool:
        return self._dialect.own

    @own.setter
    def own(self, own: bool) -> None:
        raise AssertionError("only the dialect itself knows")

    @property
    def deadline(self) -> float | None:
        return self._dialect.deadline

    @deadline.setter
    def deadline(self, deadline: float | None) -> None:
        raise AssertionError("only the dialect itself has deadlines")

    def handle(self, event: Event, *, now: float) -> Sequence[Command]:
        if isinstance(event, Opened | Refused | Replied) and not self.headers:
            self.headers = event.headers
            self.status = 0 if isinstance(event, Opened) else event.status
        if isinstance(event, Opened) and self._leaves:
            self.was_let_in = True
            return [CloseCarrier(reason="mcp-edge doctor has seen enough"), Lost("left")]
        return self._dialect.handle(event, now=now)

    def doubt(self, *, now: float) -> Sequence[Command]:
        return self._dialect.doubt(now=now)
