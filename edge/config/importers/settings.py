"""What the foreign formats have in common: addresses, log levels, URLs and headers, and where their secrets go."""

import re
from urllib.parse import unquote, urlsplit

from edge.config.address import parse_address
from edge.config.common import OWN_HEADERS
from edge.config.importers.document import Path
from edge.config.importers.draft import Draft, Parts, Variable, expanded, has_variables
from edge.config.importers.foreign_table import Table
from edge.config.private import is_private, is_secret_name, is_token
from edge.config.secrets import SECRET_NAME

LEVELS = {"trace": "debug", "debug": "debug", "info": "info", "notice": "info", "warn": "warning"}
LEVELS |= {"warning": "warning", "error": "error", "critical": "error", "fatal": "error", "silent": "error"}
OPEN_TO_ALL = (
    "whoever reaches the endpoint can call every tool, so keep it on loopback, or have something guard it"
)
BEARER = re.compile(r"\s*Bearer\s+", re.IGNORECASE)


def put_level(draft: Draft, level: str | None, origin: Path) -> None:
    """The log's level; ours has four."""
    if level is None:
        return
    known = LEVELS.get(level.lower())
    if known is None:
        draft.lost(
            origin, f"is no level of ours ({', '.join(sorted(set(LEVELS.values())))}); it stays at info"
        )
    elif known != "info":
        draft.put(("log", "level"), known, origin=origin)


def put_listen(draft: Draft, host: str, port: int, origin: Path) -> None:
    """Where clients connect to. Nothing is opened to others that we cannot guard yet."""
    shown_host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    text = f"{shown_host}:{port}"
    try:
        is_local = parse_address(text).is_local
    except ValueError as exc:
        draft.wrong(origin, str(exc))
        return
    at = ("gateway", "listen")
    if not is_local:
        draft.to_do(
            origin,
            f"listens on 127.0.0.1 only, not on {text}: clients cannot be told apart yet, so another address"
            " needs tls.client_ca, or insecure_public = true if something else guards it",
            at=at,
        )
        text = f"127.0.0.1:{port}"
    draft.put(at, text, origin=origin)


def name_and_url(draft: Draft, table: Table) -> tuple[str, str] | None:
    """A server's, as they stand there; None if one is missing, which is told."""
    name, url = table.text("name"), table.text("url")
    if not name:
        draft.wrong(table.at("name"), "is missing")
    if not url:
        draft.wrong(table.at("url"), "is missing")
    return (name, url) if name and url else None


def put_url(draft: Draft, path: Path, owner: str, parts: Parts, origin: Path) -> None:
    """A server's URL at `path`; what is secret in it goes elsewhere."""
    found: Parts = []
    for part in parts:
        found += [part] if isinstance(part, Variable) else without_secrets(draft, path, owner, part, origin)
    draft.put((*path, "url"), expanded(found), origin=origin)


def without_secrets(draft: Draft, path: Path, owner: str, url: str, origin: Path) -> Parts:
    """The URL with variables for what is secret in its path and query; a user and password become a header."""
    head, question, query = url.partition("?")
    scheme, slashes, rest = head.partition("://")
    authority, slash, way = rest.partition("/") if slashes else ("", "", "")
    if "@" in authority:
        user, _, authority = authority.rpartition("@")
        put_basic(draft, path, owner, user, origin)
        url = f"{scheme}://{authority}{slash}{way}{question}{query}"
    return without_query_secrets(draft, owner, url, origin, (*path, "url"))


def without_query_secrets(draft: Draft, owner: str, url: str, origin: Path, at: Path) -> Parts:
    """The URL with variables for what is secret in its path and query."""
    head, question, query = url.partition("?")
    scheme, slashes, rest = head.partition("://")
    authority, slash, way = rest.partition("/") if slashes else ("", "", head)
    parts: Parts = [f"{scheme}://{authority}{slash}" if slashes else ""]
    for number, segment in enumerate(way.split("/")):
        parts.append("/" if number else "")
        if is_token(unquote(segment)):
            what = "the secret part of the path of its URL"
            name = draft.variable([f"{owner}_URL_PATH"], value=segment, what=what, origin=origin, at=at)
            parts.append(Variable(name))
        else:
            parts.append(segment)
    parts.append(question)
    for number, pair in enumerate(query.split("&") if query else []):
        name, equals, value = pair.partition("=")
        parts.append(f"{'&' if number else ''}{name}{equals}")
        if value and (is_private(name, unquote(value)) or is_secret_name(unquote(name))):
            what = f"the value of {name} in its URL"
            variable = draft.variable([f"{owner}_{name}"], value=value, what=what, origin=origin, at=at)
            parts.append(Variable(variable))
        else:
            parts.append(value)
    return parts


def put_basic(draft: Draft, path: Path, owner: str, user: str, origin: Path) -> None:
    what = "`Basic ` and the base64 form of the user:password that stood in its URL"
    at = (*path, "headers")
    name = draft.variable([f"{owner}_AUTHORIZATION"], value=user, what=what, origin=origin, at=at)
    draft.put((*path, "headers", "Authorization"), f"${{{name}}}", origin=origin)


def put_header(
    draft: Draft,
    path: Path,
    owner: str,
    name: str,
    parts: Parts,
    origin: Path,
    *,
    is_secret: bool = False,
) -> None:
    """One header of every request; a bearer token gets its own key. `is_secret`: whatever it is called."""
    lower = name.lower()
    if lower in OWN_HEADERS or lower.startswith("mcp-"):
        draft.lost(origin, "is left out: mcp-edge sets it itself")
        return
    if lower == "authorization" and "bearer_env" in draft.table.get("servers", {}).get(owner, {}):
        draft.lost(origin, "is left out: it is made from the bearer token")
        return
    first = parts[0] if parts and isinstance(parts[0], str) else ""
    scheme = BEARER.match(first) if lower == "authorization" else None
    if scheme is not None:
        rest: Parts = [first[scheme.end() :].strip(), *parts[1:]]
        rest = [part for part in rest if part != ""]
        if len(rest) == 1:
            put_bearer(draft, path, owner, rest[0], origin)
            return
    at = (*path, "headers", name)
    literal = "".join(part for part in parts if isinstance(part, str))
    is_plain = not has_variables(parts)
    is_secret = is_secret or is_secret_name(name) or SECRET_NAME.search(name) is not None
    if is_secret and not literal.strip() and is_plain:
        draft.lost(origin, "is left out: it has no value")
        return
    if is_token(literal) or (is_plain and (is_secret or is_private(name, literal))):
        what = f"the {'' if is_plain else 'whole '}value of its header {name}"
        variable = draft.variable([f"{owner}_{name}"], value=literal, what=what, origin=origin, at=at)
        parts = [Variable(variable)]
    draft.put(at, expanded(parts).strip(), origin=origin)


def put_bearer(draft: Draft, path: Path, owner: str, token: str | Variable, origin: Path) -> None:
    at = (*path, "bearer_env")
    if isinstance(token, Variable):
        name = token.name
    else:
        name = draft.variable([f"{owner}_TOKEN"], value=token, what="its bearer token", origin=origin, at=at)
    draft.put(at, name, origin=origin)


def host_of(url: str) -> str:
    """For a name: the first label of a URL's host."""
    try:
        host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
    except ValueError:
        host = ""
    label = host.partition(".")[0]
    return "gateway" if not label or label.isdigit() else label
