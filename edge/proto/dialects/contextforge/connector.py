"""The edge's end of a ContextForge reverse proxy link.

Opens a WebSocket, registers one MCP server, carries requests in and responses out, and beats: every heartbeat is
answered by the gateway and that answer is never answered. A gateway whose `register_ack` says `success` has nothing
more to say (`v1`); one that says `processing` looks at the server before its `register_complete` (`v2`), so calls
must be served from the acknowledgement on. A hub of ours says so in the upgrade's answer (`own`).
Source: ContextForge 1.0.7, reverse proxy (observed); its typed successor (read in code).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlencode

from edge.errors import BadMessage, LocalProtocolError
from edge.proto.dialect import (
    OWN_HEADER,
    Alive,
    CloseCarrier,
    Closed,
    Command,
    Deliver,
    Event,
    Garbled,
    Hurry,
    LinkState,
    Lost,
    Opened,
    OpenWebSocket,
    Ping,
    Push,
    Ready,
    Received,
    Refused,
    Remark,
    Send,
    Start,
    Stop,
    Tick,
)
from edge.proto.dialects.contextforge import frames
from edge.proto.dialects.contextforge.liveness import Liveness, Verdict
from edge.proto.dialects.refusal import advice_for, detail_of
from edge.proto.jsonrpc import (
    INTERNAL_ERROR,
    METHOD_NOT_FOUND,
    Notification,
    Request,
    decode,
    encode_error,
    encode_notification,
    encode_result,
)
from edge.proto.jsontext import members, replace_members
from edge.proto.numbered import parse_answer

S = LinkState

TRANSITIONS: Final[Mapping[LinkState, frozenset[type]]] = {
    S.IDLE: frozenset({Start, Stop}),
    S.OPENING: frozenset({Opened, Refused, Closed, Stop}),
    S.REGISTERING: frozenset({
        frames.Ack, frames.Complete, frames.Heartbeat, frames.Complaint, frames.Unknown, frames.Bad,
        Alive, Garbled, Tick, Stop, Closed,
    }),
    S.READY: frozenset({
        frames.Ask, frames.Complete, frames.Heartbeat, frames.Complaint, frames.Unknown, frames.Bad,
        Alive, Garbled, Send, Tick, Stop, Closed,
    }),
    S.CLOSED: frozenset(),
}  # fmt: skip
"""State to the steps that may follow. Which state comes next depends on what a step says.
What our own two ends carry while READY, either way, is seen before the table is."""

HEARD: Final = (Received, Alive, Garbled)
NEVER: Final = float("inf")

MAX_REMARKS: Final = 16
FLAPPING_S: Final = 10.0
NAME_ADVICE: Final = (
    "the name may belong to another owner, or the token may lack gateways.create and servers.create: "
    "the gateway's log says which; a name of its own for each edge is safest"
)
LOOK_ADVICE: Final = (
    "the gateway looks at the server first: its lists must come within 60 s each; otherwise, the name may belong to "
    "another owner; the gateway's log says which"
)
DISPLACED_ADVICE: Final = "if this comes again and again, another edge uses the same name: give each its own"
SIZE_ADVICE: Final = "a message was larger than the other end takes: lower max_message_bytes"
TOKEN_ADVICE: Final = "the token is missing, wrong or expired, or its user does not exist"  # noqa: S105  words, no token
PATH_ADVICE: Final = (
    "nothing there: the path; or ContextForge's reverse proxy is off: "
    "MCPGATEWAY_REVERSE_PROXY_ENABLED=true turns it on"
)
CLOSE_CODES: Final = {1001: ", going away", 1011: ", an error of its own", 1012: ", service restart"}
HUB_PATH_ADVICE: Final = "look at the path of the url, and that the hub speaks contextforge"
NO_WEBSOCKET_ADVICE: Final = "what answers at this address is no reverse proxy endpoint: look at the url"


@dataclass(frozen=True, slots=True)
class Quirks:
    """What foreign gateways need. Each flag is as that software behaves.

    `v1_max_bytes`: 1.0.7 closes with 1009 above 16 MiB (observed). `v2_max_bytes`: the typed gateway does so above
    1 MiB (read). `adds_client_version`: gateways send `clientInfo` without the `version` that MCP wants, which a
    strict server refuses (read), so it is added. `legacy_path`: up to 1.0.0 there is no `/v1/` (observed), so the
    path without it is tried after a 403 or 404.
    """

    v1_max_bytes: int = 16 * 1024 * 1024
    v2_max_bytes: int = 1024 * 1024
    adds_client_version: bool = True
    legacy_path: bool = True


class ContextForgeConnector:
    """One WebSocket to one gateway, for one published server.

    `session_id` is random and sent as X-Session-ID: gateways before 1.0 use it as their own. `ack_s` and
    `complete_s` bound the registration; a `register_complete` that does not come is only remarked upon.
    `dead_after_s` without any sign of life ends the link; after `doubt` it is `doubt_s`.
    """

    def __init__(
        self,
        *,
        url_path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        name: str,
        session_id: str,
        description: str = "",
        heartbeat_s: float = 25.0,
        max_message_bytes: int = 16 * 1024 * 1024,
        ack_s: float = 15.0,
        complete_s: float = 330.0,
        dead_after_s: float = 60.0,
        doubt_s: float = 5.0,
        quirks: Quirks | None = None,
    ) -> None:
        self.state = S.IDLE
        self.own = False
        self.deadline: float | None = None
        self._quirks = Quirks() if quirks is None else quirks
        self._targets = targets(url_path, query, legacy_path=self._quirks.legacy_path)
        self._headers = headers
        self._name = name
        self._description = description
        self._session = session_id
        self._heartbeat_s = heartbeat_s
        self._max_bytes = max_message_bytes
        self._ack_s = ack_s
        self._complete_s = complete_s
        # Two beats that bring nothing are needed to tell, however slow they are.
        dead_after_s = max(dead_after_s, 2 * heartbeat_s + doubt_s)
        self._alive = Liveness(dead_after_s=dead_after_s, doubt_s=doubt_s)
        self._offer: str | None = None
        self._answer: str | None = None
        self._refusals: list[Refused] = []
        self._complaint = ""
        self._remarks: set[str] = set()
        self._ready_at = 0.0
        self._next_beat = NEVER
        self._complete_by = NEVER
        self._ack_by = NEVER

    def handle(self, event: Event, *, now: float) -> Sequence[Command]:
        """What follows from `event`. A step that the table lacks changes nothing."""
        if self.own and self.state is S.READY:
            # Nearly every event of a link between our own two ends: nothing to parse, and nothing that could change.
            if isinstance(event, Send):
                return [Push(event.text)]
            if isinstance(event, Received) and frames.is_carried(event.text):
                self._alive.hear(now)
                self.deadline = min(self._alive.due, self._next_beat)
                return [Deliver(event.text)]
        if self.state is S.CLOSED:
            return []
        step = frames.parse(event.text, own=self.own) if isinstance(event, Received) else event
        if type(step) not in TRANSITIONS[self.state] or (self.own and isinstance(step, frames.Ask)):
            if isinstance(event, Received):
                self._alive.hear(now)
                return self._until(
                    self._remark(f"an untimely frame ({type(step).__name__.lower()}) was passed over")
                )
            if isinstance(event, (Tick, Alive, Garbled)):
                return []  # a timer or a pong that crossed a change of state
            raise LocalProtocolError(f"{type(step).__name__} while {self.state.name}")
        if isinstance(event, HEARD):
            self._alive.hear(now, is_pong=isinstance(event, Alive))
        return self._until(self._follow(step, now))

    def doubt(self, *, now: float) -> Sequence[Command]:
        """Asks for a pong, and gives up soon without any sign of life. Before READY the timers are short anyway."""
        asks = self.state is S.READY and self._alive.doubt(now)
        return self._until([Ping()] if asks else [])

    def _follow(self, step: Event | frames.Step, now: float) -> Sequence[Command]:
        match step:
            case Start(offer):
                self._offer = offer
                self.state = S.OPENING
                return [self._open()]
            case Opened(headers):
                answer = headers.get(OWN_HEADER) if self._offer is not None else None
                self.own = parse_answer(answer) is not None
                self._answer = answer if self.own else None
                self.state = S.REGISTERING
                self._alive.hear(now)
                self._ack_by = now + self._ack_s
                return [Push(frames.register(self._session, self._name, self._description))]
            case Refused():
                return self._refused(step)
            case frames.Ack("success" | "processing" as status, session):
                return self._registered("v2" if status == "processing" else "v1", session, now)
            case frames.Ack(status):
                reason = (
                    f"the gateway acknowledged the registration with status {frames.shown(status) or 'none'}"
                )
                return self._lose(reason, Hurry.SLOW, NAME_ADVICE)
            case frames.Complete("success"):
                if self.state is S.REGISTERING:
                    return self._registered("v2", None, now, is_complete=True)
                self._complete_by = NEVER
                return []
            case frames.Complete(_, message):
                reason = f"the gateway refused the registration: {frames.shown(message) or 'no reason given'}"
                return self._lose(reason, Hurry.SLOW, LOOK_ADVICE)
            case frames.Ask(payload, has_credentials):
                text = "credentials for the server came along and are not used"
                said = self._remark(text, "info") if has_credentials else []
                return [*said, Deliver(self._made_whole(payload))]
            case frames.Complaint(message):
                self._complaint = frames.shown(message)
                return self._remark(f"the gateway complains: {self._complaint}")
            case frames.Bad(reason) | Garbled(reason):
                return self._remark(f"{reason} was passed over")
            case frames.Unknown():
                return self._remark("a frame of an unknown type was passed over", "debug")
            case Send(text):
                return self._outward(text)
            case Stop(reason, code):
                has_socket = self.state in (S.REGISTERING, S.READY)
                bye = [Push(frames.unregister(self._session))] if has_socket else []
                return [*bye, *self._lose(reason, Hurry.NORMAL, code=code)]
            case Closed(reason, code):
                return self._closed(reason, code, now)
            case Tick():
                return self._tick(now)
            case _:  # Heartbeat, Alive: noted already, and never answered
                return []

    # -- opening

    def _open(self) -> OpenWebSocket:
        offer = {} if self._offer is None else {OWN_HEADER: self._offer}
        target = self._targets[len(self._refusals)]
        return OpenWebSocket(target, {"X-Session-ID": self._session, **self._headers, **offer})

    def _refused(self, refusal: Refused) -> Sequence[Command]:
        self._refusals.append(refusal)
        if refusal.status in (403, 404) and len(self._refusals) < len(self._targets):
            return [self._open()]
        told = max(self._refusals, key=lambda each: (each.status != 404, bool(each.body)))
        reason = f"the gateway answered {told.status} to the upgrade"
        if detail := detail_of(told.body):
            reason += f": {detail}"
        status = told.status
        if status >= 500 or status == 408:
            return self._lose(reason, Hurry.NORMAL, is_open=False)
        usual = {401: TOKEN_ADVICE, 403: self._advice_403(), 404: PATH_ADVICE, 429: ""}
        advice = advice_for(
            status, told.body, usual=usual.get(status, NO_WEBSOCKET_ADVICE), path=HUB_PATH_ADVICE
        )
        return self._lose(reason, Hurry.SLOW, advice, is_open=False)

    def _advice_403(self) -> str:
        sessions = self._targets[-1].partition("?")[0].removesuffix("/ws") + "/sessions"
        return (
            "token, feature switch (MCPGATEWAY_REVERSE_PROXY_ENABLED) or path; to tell, GET "
            f"{sessions} with the same token: 401 is the token, 403 its rights, 404 the switch, 200 the path"
        )

    # -- registered

    def _registered(
        self, kind: str, session: str | None, now: float, *, is_complete: bool = False
    ) -> Sequence[Command]:
        self.state = S.READY
        self._ready_at = now
        self._ack_by = NEVER
        self._next_beat = now + self._heartbeat_s
        if self.own:
            kind = "own"
        elif kind == "v2":
            self._complete_by = NEVER if is_complete else now + self._complete_s
            self._max_bytes = min(self._max_bytes, self._quirks.v2_max_bytes)
        else:
            self._max_bytes = min(self._max_bytes, self._quirks.v1_max_bytes)
        return [Ready(kind, answer=self._answer, session=session)]

    def _closed(self, reason: str, code: int | None, now: float) -> Sequence[Command]:
        is_fresh = self.state is S.READY and now - self._ready_at < FLAPPING_S
        if not reason:
            reason = f"the gateway closed the connection with code {code}{CLOSE_CODES.get(code or 0, '')}"
        if code == 1000 and is_fresh and (not self.own or "replaced" in reason):
            return self._lose(reason, Hurry.SLOW, DISPLACED_ADVICE, is_open=False)
        hurry = {1008: Hurry.SLOW, 1012: Hurry.NOW}.get(code or 0, Hurry.NORMAL)
        # A hub of ours gives its reason in full.
        advice = {1008: "" if self.own else NAME_ADVICE, 1009: SIZE_ADVICE}.get(code or 0, "")
        return self._lose(reason, hurry, advice, is_open=False)

    def _tick(self, now: float) -> Sequence[Command]:
        verdict = self._alive.judge(now)
        if verdict is Verdict.DEAD:
            return self._lose("no sign of life from the gateway", Hurry.NOW)
        if verdict is Verdict.DOUBT:
            return [Ping()]
        if now >= self._ack_by:
            why = f"; it complained: {self._complaint}" if self._complaint else ""
            return self._lose(f"no register_ack within {self._ack_s:g} s{why}")
        said: list[Command] = []
        if now >= self._complete_by:
            self._complete_by = NEVER
            said += self._remark("no register_complete came; the link is used without")
        if now >= self._next_beat:
            self._next_beat = now + self._heartbeat_s
            said += [Push(frames.heartbeat(self._session)), Ping()]
        return said

    # -- payloads

    def _made_whole(self, payload: str) -> str:
        """`initialize` with a version in `clientInfo`; everything else as it came."""
        if not self._quirks.adds_client_version or '"initialize"' not in payload:
            return payload
        try:
            message = decode(payload)
            if not isinstance(message, Request) or message.method != "initialize" or message.params is None:
                return payload
            info = members(message.params.text)["clientInfo"]
            if not isinstance(info.value, dict) or "version" in info.value:
                return payload
            text = replace_members(message.params.text[info.start : info.end], {"version": '"0"'})
            return replace_members(
                payload, {"params": replace_members(message.params.text, {"clientInfo": text})}
            )
        except (BadMessage, KeyError):
            return payload  # whoever serves it will say what is wrong

    def _outward(self, text: str) -> Sequence[Command]:
        """A message as a foreign gateway takes it: no members but those of JSON-RPC, not too large."""
        try:
            message = decode(text)
        except BadMessage as exc:
            return self._remark(f"a message for the gateway was dropped: {exc}")
        if isinstance(message, Request):
            # No frame carries a server's request, and a server that gets no answer waits for ever.
            if message.method == "ping":
                return [Deliver(encode_result(message.id, "{}"))]
            told = f"{message.method} cannot be asked over this link"
            return [Deliver(encode_error(message.id, METHOD_NOT_FOUND, told))]
        if isinstance(message, Notification):
            params = None if message.params is None else message.params.text
            payload = encode_notification(message.method, params)
            frame = frames.carrying("notification", self._session, payload)
            if frames.size_of(frame) > self._max_bytes:
                return self._remark("a notification too large for the gateway was dropped")
            return [Push(frame)]
        if message.id is None:
            return self._remark("an error answer without an id was dropped")
        if message.result is not None:
            payload = encode_result(message.id, message.result.text)
        else:
            assert message.error is not None  # of a response's two forms it is the other
            payload = encode_error(message.id, message.error.code, message.error.message, message.error.data)
        frame = frames.carrying("response", self._session, payload)
        size = frames.size_of(frame)
        if size > self._max_bytes:
            told = f"the answer has {size} bytes, and the gateway takes {self._max_bytes}"
            frame = frames.carrying("response", self._session, encode_error(message.id, INTERNAL_ERROR, told))
        return [Push(frame)]

    # -- the end, and what all share

    def _lose(
        self,
        reason: str,
        hurry: Hurry = Hurry.NORMAL,
        advice: str = "",
        *,
        code: int = 1000,
        is_open: bool = True,
    ) -> Sequence[Command]:
        has_carrier = is_open and self.state is not S.IDLE
        self.state = S.CLOSED
        return [
            *([CloseCarrier(code, frames.close_reason(reason))] if has_carrier else []),
            Lost(reason, hurry, advice),
        ]

    def _remark(self, text: str, level: Literal["debug", "info", "warning"] = "warning") -> Sequence[Command]:
        """Once per text, and a peer that keeps finding new ones is not quoted for ever."""
        if text in self._remarks or len(self._remarks) >= MAX_REMARKS:
            return []
        self._remarks.add(text)
        return [Remark(text, level)]

    def _until(self, commands: Sequence[Command]) -> Sequence[Command]:
        """`commands`, with the deadline for what comes next."""
        is_up = self.state is S.REGISTERING or self.state is S.READY
        timers = (self._alive.due, self._ack_by, self._complete_by, self._next_beat)
        self.deadline = min(timers) if is_up else None
        return commands


def targets(url_path: str, query: Mapping[str, str], *, legacy_path: bool) -> list[str]:
    """Where to knock, in order. A path that ends in `/ws` is meant as it is; a sub-path is kept."""
    tail = f"?{urlencode(query)}" if query else ""
    path = url_path.rstrip("/")
    if path.endswith("/ws"):
        return [path + tail]
    base = path.removesuffix("/reverse-proxy").removesuffix("/v1")
    found = [f"{base}/v1/reverse-proxy/ws{tail}"]
    return [*found, f"{base}/reverse-proxy/ws{tail}"] if legacy_path else found
