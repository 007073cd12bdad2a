"""One call of a client, and what its server says before the response, on the way to that client.

`Relay` is what a channel (parts/channel.py) knows of the caller: it takes notifications and requests of the server,
and puts back what is the client's own.
"""

from collections.abc import Awaitable, Callable

from edge.errors import RpcError
from edge.parts.channel import Notify
from edge.parts.questions import Askable, Question, Unanswered, cancelled_note
from edge.parts.sessions import InFlight, LiveSession
from edge.parts.views import View
from edge.proto.jsonrpc import Notification, Request
from edge.proto.jsontext import Raw, replace_members
from edge.proto.mcp import METHOD_NOT_FOUND, passes
from edge.proto.questions import check_declared
from edge.proto.session import DEFAULT_LEVEL


class Call:
    """One request in flight: what is asked, by whom, and where news about it goes.

    `ask` sends a server's request to its client; None: there is no way to. `regrets` are what the client is told of
    those that the end of the call has overtaken.
    """

    __slots__ = ("ask", "early", "flight", "notify", "regrets", "request", "session", "view")

    def __init__(
        self,
        request: Request,
        view: View,
        *,
        session: LiveSession | None,
        flight: InFlight,
        notify: Notify,
        early: Callable[[str], None] | None = None,
        ask: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self.request = request
        self.view = view
        self.session = session
        self.flight = flight
        self.notify = notify
        self.early = early if request.method == "tools/call" else None
        self.ask = ask
        self.regrets: list[Notification] | None = None


class Relay(Askable):
    """What a server tells about one call, on its way to the client: with the client's own progress token."""

    __slots__ = ("_call", "_last", "_token")

    def __init__(self, call: Call, token: str | None) -> None:
        self._call = call
        self._token = token
        self._last = float("-inf")

    async def __call__(self, note: Notification) -> None:
        params = note.params
        if params is None:
            return
        if note.method == "notifications/progress":
            value = params.value.get("progress")
            if self._token is None or not isinstance(value, (int, float)) or value <= self._last:
                return  # progress is a number and must increase; some clients end a call over less
            self._last = value
            restored = replace_members(params.text, {"progressToken": self._token})
            note = Notification(note.method, Raw(restored, None))
        elif note.method == "notifications/message" and not is_wanted(self._call.session, params):
            return
        await self._call.notify(note)

    def answered(self, result: Raw) -> None:
        if self._call.early is not None and isinstance(result.value, dict):
            self._call.early(result.text)

    # -- what the server asks

    @property
    def client(self) -> object:
        return self._call.session

    @property
    def may_be_asked(self) -> bool:
        session = self._call.session
        return session is not None and self._call.ask is not None and bool(session.state.declared)

    def open(self, question: Question) -> None:
        session = self._call.session
        if session is None:
            text = "the call has no session, so its client has declared no capabilities"
            raise RpcError(METHOD_NOT_FOUND, text)
        check_declared(session.state.declared, question.request)
        if self._call.ask is None:
            raise RpcError(METHOD_NOT_FOUND, "there is no way by which the client could be asked")
        if session.questions is None:
            session.questions = Unanswered()
        session.questions.add(question)

    async def ask(self, question: Question) -> None:
        if self._call.ask is not None:
            await self._call.ask(question.text)

    def dropped(self, question: Question, reason: str) -> None:
        if self._call.regrets is None:
            self._call.regrets = []
        self._call.regrets.append(cancelled_note(question, reason))


def is_wanted(session: LiveSession | None, params: Raw) -> bool:
    """Whether a log message is for that client; one without a session gets what DEFAULT_LEVEL lets pass."""
    level = params.value.get("level") if isinstance(params.value, dict) else None
    if not isinstance(level, str):
        return False
    return session.state.wants_log(level) if session is not None else passes(level, DEFAULT_LEVEL)
