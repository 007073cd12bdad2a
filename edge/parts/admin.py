"""The admin listener's answers: is it alive, is it ready, how is it, what has it counted.

Read-only and without secrets, so there is no authentication; the Host and Origin checks keep the
pages of a browser from reading it. Why something failed, and what a server wrote to stderr, may hold
more than its operator thinks, so only callers on this machine are told, and no browser that a page
led here under another name. It knows nothing but `Health` and `Metrics`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import trio

from edge.gate.origin import Origins, is_loopback
from edge.health import SHELVES, Health
from edge.metrics import Metrics
from edge.net.http_server import HttpRequest, Refusal, Reply
from edge.parts import reload_face
from edge.parts.reload_face import ReloadDesk
from edge.parts.status_page import page
from edge.parts.status_style import SECURITY_POLICY

TEXT = "text/plain; charset=utf-8"
NO_STORE = ("Cache-Control", "no-store")
FOR_EVERYBODY = {
    "name", "state", "required", "connected", "since", "state_seconds", "last_success", "last_seen_seconds_ago",
    "last_error_seconds_ago", "restarts", "backoff_s", "next_attempt_in_s", "tools_count", "reconnects", "dialect",
    "failures", "connections", "resumed", "rtt_s", "bytes_received", "bytes_sent", "calls_in_flight",
}  # fmt: skip
"""Members of a record in `/health` that callers elsewhere see."""
CONFIG_FOR_EVERYBODY = {"loaded_at", "is_reloading", "last_reload_at", "last_reload_ok", "last_reload_result"}
"""The same of `config`."""
LOOPBACK = Origins(("localhost:0",), hosts_key="")


class AdminFace:
    """Handler of the admin listener. Without `origins`, any Host and Origin will do.

    `info` gives what only the composition root knows, as plain JSON values: `name`, `version`,
    `endpoints` (a list of URLs), `sessions`. It is shown as it is: never a secret.
    """

    def __init__(
        self,
        *,
        health: Health,
        metrics: Metrics,
        origins: Origins | None,
        info: Callable[[], Mapping[str, Any]],
        desk: ReloadDesk | None = None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._origins = origins
        self._info = info
        self._desk = desk
        self._now = now
        self._routes: dict[str, Callable[[HttpRequest], Answer]] = {
            "/livez": self._alive,
            "/healthz": self._alive,
            "/readyz": self._ready,
            "/health": self._report,
            "/metrics": self._exposition,
            "/status": self._status,
        }

    def admit(self, head: HttpRequest) -> Refusal | None:
        host, origin = head.headers.get("host"), head.headers.get("origin")
        denied = None if self._origins is None else self._origins.check(host, origin)
        if denied is not None:
            self._metrics.denied(denied.reason)
            return self.refusal(denied.status, denied.text)
        if self._desk is not None and head.path == reload_face.PATH:
            refused = self._desk.admit(head)
            return None if refused is None else self.refusal(*refused)
        if head.path not in self._routes:
            return self.refusal(404, f"there is: {' '.join(self._routes)}")
        if head.method != "GET":  # HEAD arrives as GET
            refusal = self.refusal(405, "these pages can only be read")
            refusal.headers += (("Allow", "GET, HEAD"),)
            return refusal
        return None

    async def handle(self, request: HttpRequest, reply: Reply) -> None:
        if self._desk is not None and request.path == reload_face.PATH:
            await self._desk.handle(request, reply)
            return
        status, body, content_type, *headers = self._routes[request.path](request)
        await reply.send(status, body, content_type, headers=(NO_STORE, *headers))

    def refusal(self, status: int, text: str) -> Refusal:
        return Refusal(status, f"{text}\n".encode(), TEXT, headers=(NO_STORE,))

    def _alive(self, request: HttpRequest) -> "Answer":
        return 200, b"ok\n", TEXT  # that it is answered at all is the proof: the loop turns

    def _ready(self, request: HttpRequest) -> "Answer":
        names = {part.partition("=")[0] for part in request.query.split("&")}
        lines = self._health.lines(verbose="verbose" in names, reasons=is_told_all(request))
        return 200 if self._health.is_ready() else 503, "".join(f"{line}\n" for line in lines).encode(), TEXT

    def _report(self, request: HttpRequest) -> "Answer":
        body = json.dumps(self._whole(request), ensure_ascii=False, indent=2) + "\n"
        return 200, body.encode(), "application/json"

    def _exposition(self, request: HttpRequest) -> "Answer":
        body, content_type = self._metrics.exposition(request.headers.get("accept", ""))
        return 200, body, content_type

    def _status(self, request: HttpRequest) -> "Answer":
        body = page(self._whole(request)).encode()
        return 200, body, "text/html; charset=utf-8", ("Content-Security-Policy", SECURITY_POLICY)

    def _whole(self, request: HttpRequest) -> dict[str, Any]:
        report = {**self._info(), **self._health.report(self._now())}
        for record in report["servers"]:
            metrics = self._metrics.servers.get(record["name"])
            if metrics is not None:
                record["tools_count"] = metrics.tools_count
                record["reconnects"] = metrics.reconnects
        for record in report["edges"]:
            edge = self._metrics.edges.get(record["name"])
            if edge is not None:
                record["tools_count"] = edge.tools_count
        if not is_told_all(request):
            if report["config"] is not None:
                report["config"] = {name: report["config"][name] for name in CONFIG_FOR_EVERYBODY}
            for shelf in (*SHELVES.values(), "parts"):
                report[shelf] = [
                    {key: value for key, value in record.items() if key in FOR_EVERYBODY}
                    for record in report[shelf]
                ]
        return report


def is_told_all(request: HttpRequest) -> bool:
    """Whether it comes from this machine: over a Unix socket, or from a loopback address to a loopback name. Under
    any other name a browser of this machine may ask for a page from elsewhere (DNS rebinding)."""
    if request.peer == "unix":
        return True
    if not is_loopback(request.peer.rpartition(":")[0].strip("[]")):
        return False
    return LOOPBACK.check(request.headers.get("host"), request.headers.get("origin")) is None


# status, body, content type, then further header fields
Answer = tuple[int, bytes, str] | tuple[int, bytes, str, tuple[str, str]]
