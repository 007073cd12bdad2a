"""Every error this program raises on purpose, and `leaves`, which flattens exception groups.

Errors are named for what happened and carry data; the sentence is made from the data. Which HTTP
status, JSON-RPC code or exit code an error becomes is decided in one place, `proto/mcp.py: fault_of`,
and in `cli/main.py`. Messages are for an operator: lower case, no full stop, never a secret.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple


class EdgeError(Exception):
    """The root of all errors that are expected to happen and are handled somewhere."""


class Problem(NamedTuple):
    """One thing wrong with a config: `place` as in `servers.git.command`, `text` says what and what to do."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.place else self.text


class ConfigError(EdgeError):
    """A config that cannot be used, with all of its problems at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class ProtocolError(EdgeError):
    """The rules of a protocol were broken."""


class LocalProtocolError(ProtocolError):
    """We broke them: a bug."""


class RemoteProtocolError(ProtocolError):
    """The peer broke them."""


class BadMessage(RemoteProtocolError):
    """Bytes that are not one JSON-RPC message: -32700 (not JSON) or -32600 (JSON, but not a message).

    `id` is the request id's JSON text where it could be read, so that the answer can carry it.
    """

    def __init__(self, code: int, text: str, *, id: str | None = None) -> None:  # noqa: A002  JSON-RPC's word
        super().__init__(text)
        self.code = code
        self.id = id


class RpcError(EdgeError):
    """A JSON-RPC error answer, to be passed on as it is.

    `data` is the JSON text of the `data` member, letter for letter as the peer wrote it, or None.
    """

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class UpstreamError(EdgeError):
    """An MCP server could not do its part; `server` is its name in the config."""

    def __init__(self, server: str, text: str) -> None:
        super().__init__(f"server {server}: {text}")
        self.server = server
        self.text = text


class Unavailable(UpstreamError):
    """The server is not up (or has no room); nothing was written to it.

    `advice`, what the operator can do, is in `text`, too; `fact` is without it.
    """

    def __init__(self, server: str, text: str, advice: str = "") -> None:
        super().__init__(server, f"{text} ({advice})" if advice else text)
        self.fact = text


class TimedOut(UpstreamError):
    """No answer within `waited_s` seconds; the request was cancelled upstream."""

    def __init__(self, server: str, waited_s: float) -> None:
        super().__init__(server, f"no answer in {waited_s:g} s")
        self.waited_s = waited_s


class Gone(UpstreamError):
    """The server was lost while it had the request: whether it ran cannot be known, so it is not repeated."""


class CutOff(EdgeError):
    """We ended a call that had begun, before its server answered: whether it ran cannot be known.

    `reason` is `stopping` (mcp-edge ends) or `session_ended` (its client's session did).
    """

    TEXTS: ClassVar = {"stopping": "mcp-edge is stopping", "session_ended": "the session has ended"}

    def __init__(self, reason: str) -> None:
        super().__init__(self.TEXTS[reason])
        self.reason = reason


class SessionLost(UpstreamError):
    """An HTTP server no longer knows our session; `reason` is unknown_session, expired or terminated.

    `answer`: it is a guess, made from the words of an error answer that a tool might use as well; the request may
    have run. None: an HTTP status, or the code that is there for it, says so.
    """

    def __init__(self, server: str, reason: str, *, answer: RpcError | None = None) -> None:
        super().__init__(server, f"session lost ({reason})")
        self.reason = reason
        self.answer = answer


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The exceptions of a group, however deeply they are nested, left to right."""
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            yield from leaves(exc)
        else:
            yield exc
