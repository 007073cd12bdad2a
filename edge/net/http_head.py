"""Request heads: a strict fast path for the usual one, and h11 for all others.

Theory of operation. `usual_head` knows one shape: POST, GET or DELETE in origin form, HTTP/1.1, printable
ASCII, no name twice, exactly one Host, a plain Content-Length or none, no Transfer-Encoding, Expect or
Upgrade. Whatever is not exactly that it declines (None), it never judges; `careful_head` asks h11, and adds
what h11 lets pass: a bare LF, Content-Length beside Transfer-Encoding, a version we do not speak. A property
test proves that whatever the fast path takes, h11 takes with the same meaning.
Source: RFC 9112 (HTTP/1.1), sections 2.2, 3 and 6; RFC 9110, section 5.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import h11

from edge.errors import RemoteProtocolError

HEAD_END = b"\r\n\r\n"
NONE_REPEATED: frozenset[str] = frozenset()

# '#' is not in the target: no client may send a fragment
USUAL = re.compile(
    rb"(?:POST|GET|DELETE) /[!\"$-~]* HTTP/1\.1\r\n(?:[-!#$%&'*+.^_`|~0-9a-zA-Z]+:[\t -~]*\r\n)+\r\n"
)
UNUSUAL_FIELDS = frozenset({"transfer-encoding", "expect", "upgrade"})
BARE_LF = re.compile(rb"(?<!\r)\n")
LENGTH_FIELD = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
LENGTH_DIGITS = 15  # more is no size that anyone means
WORDS = {
    400: "malformed request",
    431: "request head too large",
    501: "transfer coding not supported; send Content-Length or chunked",
}


class BadHttp(RemoteProtocolError):
    """A request that HTTP forbids or we do not serve: `status` is the answer, and the connection must end."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text or WORDS[status])
        self.status = status


@dataclass(slots=True)
class HttpRequest:
    """One request. `path` is as it was sent, still percent-encoded; `query` is without its question mark.

    Header names are lower case; a repeated header is joined by ", " and named in `repeated`. HEAD is handed
    over as GET. `peer` is the client's address as text.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    repeated: frozenset[str]
    body: bytes
    peer: str


class Head(NamedTuple):
    """A request whose body is not read yet, and what its head says about body and connection."""

    request: HttpRequest
    body_bytes: int  # -1: chunked, length not known
    keep_alive: bool
    is_http10: bool = False
    is_head: bool = False
    wants_continue: bool = False
    chunked: "ChunkedBody | None" = None


def usual_head(data: bytes, peer: str) -> Head | None:
    """The head in `data` (its blank line included) if it is of the usual shape, else None."""
    if USUAL.fullmatch(data) is None:
        return None
    lines = data.decode("ascii").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        name = name.lower()
        if name in headers:
            return None
        headers[name] = value.strip(" \t")
    if "host" not in headers or not UNUSUAL_FIELDS.isdisjoint(headers):
        return None
    body_bytes = 0
    if (length := headers.get("content-length")) is not None:
        if not length.isdecimal() or len(length) > LENGTH_DIGITS:
            return None
        body_bytes = int(length)
    keep_alive = True
    if (connection := headers.get("connection")) is not None:
        connection = connection.lower()
        if connection == "close":
            keep_alive = False
        elif connection != "keep-alive":
            return None
    method, target, _ = lines[0].split(" ")
    path, _, query = target.partition("?")
    return Head(HttpRequest(method, path, query, headers, NONE_REPEATED, b"", peer), body_bytes, keep_alive)


class HeadMemory:
    """One connection's last usual head. Clients send the same again and again, but for its Content-Length.

    `read` gives what `usual_head` gives; for a head that is known it costs a comparison.
    """

    __slots__ = ("_after", "_before", "_known")

    def __init__(self) -> None:
        self._before = self._after = b""  # of the digits of Content-Length
        self._known: tuple[str, str, str, dict[str, str], bool] | None = None

    def read(self, data: bytes, peer: str) -> Head | None:
        if self._known is not None and data.startswith(self._before) and data.endswith(self._after):
            length = data[len(self._before) : len(data) - len(self._after)]
            if length.isdigit() and len(length) <= LENGTH_DIGITS:
                method, path, query, headers, keep_alive = self._known
                headers = headers | {"content-length": length.decode("ascii")}
                request = HttpRequest(method, path, query, headers, NONE_REPEATED, b"", peer)
                return Head(request, int(length), keep_alive)
        head = usual_head(data, peer)
        self._known = None
        if head is not None and (found := LENGTH_FIELD.search(data)) is not None:
            request = head.request  # not kept itself: it will hold the body
            self._before, self._after = data[: found.start(1)], data[found.end(1) :]
            self._known = (request.method, request.path, request.query, request.headers, head.keep_alive)
        return head


def careful_head(data: bytes, peer: str, *, max_head_bytes: int) -> Head:
    """The head in `data` (its blank line included), judged by h11. Raises: BadHttp."""
    refuse_bare_lf(data)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=max_head_bytes)
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as exc:
        raise BadHttp(exc.error_status_hint) from exc
    assert isinstance(event, h11.Request), "a whole head gives a request"
    if event.http_version not in (b"1.1", b"1.0"):
        raise BadHttp(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    is_http10 = event.http_version == b"1.0"
    headers, repeated = gathered(event.headers)
    is_chunked = "transfer-encoding" in headers
    if is_chunked and "content-length" in headers:
        raise BadHttp(400, "both Content-Length and Transfer-Encoding")
    if is_chunked and is_http10:
        raise BadHttp(400, "Transfer-Encoding in an HTTP/1.0 request")
    length = headers.get("content-length", "0")
    if len(length) > LENGTH_DIGITS:
        raise BadHttp(413, "request body too large")
    method = event.method.decode("ascii")
    path, query, authority = split_target(method, event.target.decode("ascii"))
    if authority:
        headers["host"] = authority  # RFC 9112 section 3.2.2: the absolute form wins over Host
    tokens = [token.strip() for token in headers.get("connection", "").lower().split(",")]
    return Head(
        HttpRequest("GET" if method == "HEAD" else method, path, query, headers, repeated, b"", peer),
        -1 if is_chunked else int(length),
        keep_alive=not is_http10 and "close" not in tokens,
        is_http10=is_http10,
        is_head=method == "HEAD",
        wants_continue=connection.they_are_waiting_for_100_continue,
        chunked=ChunkedBody(connection) if is_chunked else None,
    )


def refuse_bare_lf(data: bytes | bytearray, start: int = 0) -> None:
    """A line end of LF alone is where two parsers disagree about a head. Raises: BadHttp."""
    if BARE_LF.search(data, start):
        raise BadHttp(400, "a line of the head ends in LF without CR")


def gathered(fields: Iterable[tuple[bytes, bytes]]) -> tuple[dict[str, str], frozenset[str]]:
    """h11's header list as one dictionary, and the names that came more than once."""
    headers: dict[str, str] = {}
    repeated: set[str] = set()
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        if name in headers:
            repeated.add(name)
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers, frozenset(repeated) if repeated else NONE_REPEATED


def split_target(method: str, target: str) -> tuple[str, str, str]:
    """Path, query and authority (empty unless in absolute form) of a request target. Raises: BadHttp."""
    authority = ""
    if method == "CONNECT":
        raise BadHttp(501, "CONNECT is not served here")
    if "#" in target:
        raise BadHttp(400, "request target with a fragment")
    if target == "*" and method == "OPTIONS":
        return target, "", ""
    if not target.startswith("/"):
        scheme, separator, rest = target.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            raise BadHttp(400, "request target is neither a path nor an http address")
        end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
        authority, target = rest[:end], rest[end:]
        if not authority:
            raise BadHttp(400, "request target without a host")
        if not target.startswith("/"):
            target = "/" + target
    path, _, query = target.partition("?")
    return path, query, authority


class ChunkedBody:
    """The body of a chunked request, decoded by h11 from the bytes that are fed to it."""

    def __init__(self, connection: h11.Connection) -> None:
        self._connection = connection
        self.is_complete = False

    def feed(self, data: bytes) -> None:
        self._connection.receive_data(data)

    def take(self) -> bytes | None:
        """The next piece of the body; None if it is complete or more must be fed. Raises: BadHttp."""
        try:
            event = self._connection.next_event()
        except h11.RemoteProtocolError as exc:
            raise BadHttp(400, "malformed chunked body") from exc
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            self.is_complete = True
        return None

    @property
    def rest(self) -> bytes:
        """What was fed beyond the end of the body."""
        return self._connection.trailing_data[0]
