"""A long-poll connector with what it wanted last, for tests that drive it by hand."""

import json
from typing import Any

from edge.proto.dialect import (
    OWN_HEADER,
    Command,
    HttpCall,
    Replied,
    Start,
)
from edge.proto.dialects.long_poll.connector import LongPollConnector
from edge.proto.jsontext import dumps

SESSION = '{"session_id":"0123456789abcdef"}'


class PollingTalk:
    """A connector, and what it last wanted."""

    def __init__(self, *, own: bool = False, **arguments: Any) -> None:
        settings: dict[str, Any] = {
            "url_path": "",
            "query": {},
            "headers": {},
            "name": "plant-7",
            **arguments,
        }
        self.end = LongPollConnector(**settings)
        self.now = 0.0
        self.got: list[Command] = []
        self.poll = ""  # the tag of the last one
        self.own = own

    def tell(self, event: Any, *, at: float | None = None) -> list[Command]:
        self.now = self.now if at is None else at
        self.got = list(self.end.handle(event, now=self.now))
        for one in self.got:
            if isinstance(one, HttpCall) and one.tag.startswith("poll"):
                self.poll = one.tag
        return self.got

    def begin(self, link_answer: str = "v=1; link=x; received=0") -> "PollingTalk":
        self.tell(Start("v=1" if self.own else None))
        self.tell(Replied("register-1", 200, SESSION, {OWN_HEADER: link_answer} if self.own else {}))
        return self

    def call(self, kind: str) -> HttpCall:
        """The last command's call of this kind."""
        return [one for one in self.got if isinstance(one, HttpCall) and one.tag.startswith(kind)][-1]

    def wants(self, kind: str) -> bool:
        return any(isinstance(one, HttpCall) and one.tag.startswith(kind) for one in self.got)

    def polled(self, request_id: str, request: Any, *, at: float | None = None) -> list[Command]:
        """The poll that is out brings this."""
        return self.tell(
            Replied(self.poll, 200, dumps({"request_id": request_id, "request": request})), at=at
        )

    def answered(self) -> Any:
        """What the last post says."""
        body = self.call("response").body
        assert body is not None
        return json.loads(body)


def ask(number: int, method: str = "tools/call") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": {"name": "t"}}


def result(ours: int) -> str:
    return dumps({"jsonrpc": "2.0", "id": ours, "result": {}})
