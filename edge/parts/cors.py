"""Cross-origin headers, so that a page of a listed origin may read what it is answered.

Only origins in `gateway.allowed_origins` get them: a page of this machine may send requests (the Origin check
lets loopback pass), but a browser shows it nothing. Source: WHATWG Fetch, "CORS protocol".
"""

from collections.abc import Mapping, Sequence

ALLOWED_HEADERS = "Accept, Authorization, Content-Type, Last-Event-ID, Mcp-Protocol-Version, Mcp-Session-Id"
PREFLIGHT_S = 600

Fields = tuple[tuple[str, str], ...]


class CrossOrigin:
    """The headers for one request's Origin; none for a request without one, or from one that is not listed."""

    def __init__(self, allowed_origins: Sequence[str]) -> None:
        self._allowed = frozenset(origin.lower() for origin in allowed_origins)

    def fields(self, headers: Mapping[str, str]) -> Fields:
        """For the answer to a request."""
        origin = headers.get("origin")
        if origin is None or origin.lower() not in self._allowed:
            return ()
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", "Mcp-Session-Id, Mcp-Protocol-Version"),
            ("Vary", "Origin"),
        )

    def preflight(self, headers: Mapping[str, str]) -> Fields | None:
        """For the answer to a preflight OPTIONS; None if this is none, or from an origin that is not listed."""
        fields = self.fields(headers)
        if not fields or "access-control-request-method" not in headers:
            return None
        return (
            *fields,
            ("Access-Control-Allow-Methods", "POST, GET, DELETE"),
            ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
            ("Access-Control-Max-Age", str(PREFLIGHT_S)),
        )
