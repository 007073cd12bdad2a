"""What stands in Host and Origin: read from requests and from the config's lists by the same rules.

Source: RFC 9110 section 7.2 (Host), RFC 6454 section 6 (Origin).
"""

import ipaddress
import re
from typing import Final

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MAX_HEADER_CHARS: Final = 512

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)(?::([0-9]{1,5}))?")
_WEB_ORIGIN: Final = re.compile(r"(https?)://(.+)", re.IGNORECASE)
_OTHER_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._:\[\]-]+")


def split_host(text: str) -> tuple[str, int | None] | None:
    """`host` or `host:port` to its canonical host and its port; None for whatever is not exactly that."""
    if len(text) > MAX_HEADER_CHARS:
        return None
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    port = None if match[2] is None else int(match[2])
    if port is not None and not 0 < port < 65536:
        return None
    host = match[1]
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1])), port
        except ValueError:
            return None
    return host.lower(), port


def is_allowed_host(text: str) -> bool:
    """Whether it can be in `allowed_hosts`: a host, maybe with a port, or `*.` and one for all names below it."""
    return split_host(text.removeprefix("*.")) is not None


def split_web_origin(text: str) -> tuple[str, str] | None:
    """The scheme, http or https, and the rest of an origin that has one of these."""
    match = _WEB_ORIGIN.fullmatch(text)
    return None if match is None else (match[1].lower(), match[2])


def canonical_origin(text: str) -> str | None:
    """An origin to compare: lower case, without the scheme's own port; None if it cannot be one."""
    web = split_web_origin(text)
    if web is None:
        is_one = 0 < len(text) <= MAX_HEADER_CHARS and text.isascii() and text.isprintable()
        return text.lower() if is_one and " " not in text and "," not in text else None
    scheme, rest = web
    named = split_host(rest)
    if named is None:
        return None
    host, port = named
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" if port in (None, DEFAULT_PORTS[scheme]) else f"{scheme}://{shown}:{port}"


def is_allowed_origin(text: str) -> bool:
    """Whether it can be in `allowed_origins`: something that a browser may send, and not a pattern."""
    is_one = text == "null" or _OTHER_ORIGIN.fullmatch(text) is not None
    return is_one and canonical_origin(text) is not None
