"""Text of a config file and an environment to an `EdgeConfig`, or to *all* of its problems.

cattrs decides by a field's type which of the hooks in `exact.py` reads a value. `Reader` walks the
tables, so that one bad value never hides another: a key that cannot be read is noted and stood in for
by its default, and the rules of the rest are still heard.
"""

import ast
import re
import shlex
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_origin
from urllib.parse import unquote_plus

from edge.config.between import findings_between
from edge.config.exact import bad, exact_converter, kind, suggestion
from edge.config.hub import MIN_JWT_SECRET_BYTES, NO_HASH
from edge.config.model import (
    EdgeConfig,
    HttpServerConfig,
    HubEdge,
    HubJwt,
    HubWebhook,
    Secret,
    SecretRef,
    ServerConfig,
    ServerTlsConfig,
    StdioServerConfig,
    UplinkConfig,
)
from edge.config.places import Places
from edge.config.rules import BadValues, Finding, PathKey, dotted
from edge.config.secrets import PLACEHOLDER, SECRET_NAME, SOURCES, Expanded, expand, fetch_secret
from edge.errors import ConfigError, Problem

T = TypeVar("T")
Path = tuple[PathKey, ...]

NOT_JSON = "the config is TOML, and this looks like JSON; servers are written [servers.NAME]"
# What a required key that is missing or bad is taken for, while the rules of its table are heard.
STAND_INS: Mapping[str, Any] = {
    "cert": "-",
    "command": ("-",),
    "dialect": "contextforge",
    "key": "-",
    "listen": ("127.0.0.1:0",),
    "name": "-",
    "secret": Secret("-" * MIN_JWT_SECRET_BYTES),
    "token_sha256": (NO_HASH,),
    "url": "https://invalid",
}
# Tables that are stood in for when they break a rule, lest the tables around them be told to lack them.
STOOD_IN = (ServerTlsConfig, UplinkConfig, HubEdge, HubJwt, HubWebhook)
KIND_OF = {StdioServerConfig: "a stdio server", HttpServerConfig: "an HTTP server"}
MISTAKEN = {
    "args": "arguments belong into command, as a list",
    "type": "a server with command is a stdio one, a server with url an HTTP one",
    "mcpServers": "servers are written [servers.NAME]",
    "as": "the name that a link goes by is link_name",
}
TABLE_TWICE = re.compile(r"cannot declare (\(.*\)) twice", re.IGNORECASE | re.DOTALL)
AUTHORITY = re.compile(r"(?:https?|wss?)://([^/?#]*)", re.IGNORECASE)
NOT_PLAIN = "a secret is not written in the config file: use {}"
BY_ENVIRONMENT = "${NAME} for an environment variable"
OR_PLAIN = " (or, to try things out, insecure_plain_secrets = true at the top)"
SYNTAX_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def load(text: str, *, env: Mapping[str, str], read_secret: Callable[[str], str], source: str) -> EdgeConfig:
    """The config that `text` describes.

    `source` is what problems call the file; `read_secret(path)` gives a secret file's text or raises OSError.
    Raises: ConfigError with every problem, in the order of the file.
    """
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ConfigError([Problem(source, "is nested too deeply")]) from None
    except tomllib.TOMLDecodeError as exc:
        if text.lstrip().startswith("{"):
            raise ConfigError([Problem(source, NOT_JSON)]) from None
        raise ConfigError([syntax_problem(str(exc), source)]) from None
    except ValueError:  # Python's own limit on digits
        raise ConfigError([Problem(source, "holds a number with too many digits")]) from None
    reader = Reader(env=env, read_secret=read_secret)
    config = reader.config(table)
    if reader.findings:
        places = Places(text, source)
        ordered = sorted(reader.findings, key=lambda finding: places.line_of(finding.path))
        raise ConfigError([Problem(places.place(finding.path), finding.text) for finding in ordered])
    return config


def load_table(
    table: Mapping[str, Any], *, env: Mapping[str, str], read_secret: Callable[[str], str], source: str
) -> EdgeConfig:
    """As `load`, from a table that something else has read; places have no lines."""
    reader = Reader(env=env, read_secret=read_secret)
    config = reader.config(table)
    if reader.findings:
        places = Places("", source)
        raise ConfigError([Problem(places.place(finding.path), finding.text) for finding in reader.findings])
    return config


def syntax_problem(text: str, source: str) -> Problem:
    """tomllib's message as a problem; Python 3.11 tells the position only at the end of its text."""
    found = SYNTAX_PLACE.search(text)
    place = f"{source}:{found[1]}:{found[2]}" if found and found[1] else source
    what = text[: found.start()] if found else text
    if twice := TABLE_TWICE.fullmatch(what):
        table = dotted(ast.literal_eval(twice[1]))  # Python shows the key as a tuple
        return Problem(place, f"[{table}] is there twice; its keys belong under one heading")
    return Problem(
        place, "not TOML: " + what[:1].lower() + what[1:] + ("" if not found or found[1] else " at the end")
    )


def with_stand_ins(url: str) -> str:
    """A URL whose placeholders have no values, such that the rules can judge the rest of it."""
    marked = PLACEHOLDER.sub("\0", url)
    found = AUTHORITY.match(marked)
    if found is None:
        return str(STAND_INS["url"])
    authority = found[1]
    if "\0" in authority:
        authority = "x@invalid" if "@" in authority else "invalid"
    return (marked[: found.start(1)] + authority + marked[found.end(1) :]).replace("\0", "x")


def homes_of(key: str) -> list[str]:
    """The tables with fixed names that have such a key, as headings."""
    tables = {field.name: table_class(field.type) for field in fields(EdgeConfig)}
    return [f"[{name}]" for name, cls in tables.items() if cls is not None and key in keys_of(cls)]


def has_plain_password(url: str) -> bool:
    """A URL as written holds a password without a placeholder."""
    authority = AUTHORITY.match(url)
    password = authority[1].rpartition("@")[0].partition(":")[2] if authority else ""
    return password != "" and not PLACEHOLDER.search(password)


def has_plain_parameter(url: str) -> bool:
    """A URL as written has a parameter that is a secret by its name, and no placeholder in its value."""
    pairs = (pair.partition("=") for pair in url.partition("?")[2].partition("#")[0].split("&"))
    return any(
        value and SECRET_NAME.search(unquote_plus(name)) and not PLACEHOLDER.search(value)
        for name, _, value in pairs
    )


def is_secret(type_: Any) -> bool:
    return type_ is Secret or Secret in get_args(type_)


def stand_in_for(cls: type[T]) -> T:
    """A table of this class with nothing but stand-ins in it."""
    needed = {field.name for field in fields(cls) if default_of(field, None) is MISSING}  # type: ignore[arg-type]  # cls is one of the model's dataclasses
    return cls(**{name: STAND_INS[name] for name in needed})


def table_class(type_: Any) -> Any:
    """The dataclass that a field's type is or, for `X | None`, may be; None for leaf types and mappings."""
    origin: Any = get_origin(type_)
    if origin is Mapping:
        return None
    candidates: list[Any] = [type_, *get_args(type_)]
    return next((one for one in candidates if is_dataclass(one)), None)


def default_of(field: Field[Any], base: object) -> Any:
    """A key's default: that of the table it is in, where the table's owner has set one."""
    if base is not None:
        return getattr(base, field.name)
    return field.default_factory() if field.default_factory is not MISSING else field.default


def keys_of(cls: Any) -> dict[str, str]:
    """The keys that a user may write in a table of this class, each with the field it is for."""
    keys: dict[str, str] = {}
    for field in fields(cls):
        if field.metadata.get("reads") == "reference":
            continue
        keys[field.name] = field.name
        if is_secret(field.type):
            keys |= {f"{field.name}_{source}": field.name for source in SOURCES}
    return keys


def published_in(table: Mapping[str, Any]) -> Mapping[str, list[object]]:
    """The servers that each uplink lists, as far as that can be read."""
    uplinks = table.get("uplinks")
    tables = uplinks.items() if isinstance(uplinks, Mapping) else ()
    listed = {name: raw.get("servers") for name, raw in tables if isinstance(raw, Mapping)}
    return {name: servers for name, servers in listed.items() if isinstance(servers, list)}


def reference_in(raw: Mapping[str, Any], name: str) -> SecretRef | None:
    """Where the secret `name` of a table comes from; None: it has none, or it stands there plainly."""
    for source in SOURCES:
        where = raw.get(f"{name}_{source}")
        if isinstance(where, str):
            return SecretRef(source, where)
    return None


class Reader:
    """One reading of one config: collects `findings` on its way and always comes to an end."""

    def __init__(self, *, env: Mapping[str, str], read_secret: Callable[[str], str]) -> None:
        self.findings: list[Finding] = []
        self._env = env
        self._read_secret = read_secret
        self._converter = exact_converter()
        self._allows_plain_secrets = False

    def config(self, table: Mapping[str, Any]) -> EdgeConfig:
        self._allows_plain_secrets = table.get("insecure_plain_secrets") is True
        config = self._table(EdgeConfig, table, ()) or EdgeConfig()
        servers = table.get("servers")
        names = servers.keys() if isinstance(servers, Mapping) else ()
        self.findings += findings_between(config, servers=names, published=published_in(table))
        return config

    def _note(self, text: str, path: Path) -> None:
        self.findings.append(Finding(path, text))

    def _note_all(self, exc: BadValues, path: Path) -> None:
        self.findings += [Finding(path + found.path, found.text) for found in exc.findings]

    def _table(
        self,
        cls: type[T],
        raw: object,
        path: Path,
        *,
        base: object = None,
        given: Mapping[str, Any] = MappingProxyType({}),
    ) -> T | None:
        """One table; `base` has its defaults, `given` what is not read from it. None if it broke a rule."""
        if not isinstance(raw, Mapping):
            self._note(f"must be a table, not {kind(raw)}", path)
            return None
        known = {key: name for key, name in keys_of(cls).items() if name not in given}
        self._check_keys(raw, known, path, cls)
        values = dict(given)
        for field in fields(cls):  # type: ignore[arg-type]  # cls is one of the model's dataclasses
            if field.name not in given:
                values[field.name] = self._value(field, raw, path, default_of(field, base))
        try:
            return cls(**values)
        except BadValues as exc:
            self._note_all(exc, path)
            return None

    def _check_keys(self, raw: Mapping[str, Any], known: Collection[str], path: Path, cls: Any) -> None:
        other = {StdioServerConfig: HttpServerConfig, HttpServerConfig: StdioServerConfig}.get(cls)
        for key in raw:
            if key in known or not isinstance(key, str):
                continue
            if key == "name" and cls in (*KIND_OF, UplinkConfig, HubEdge):
                self._note(f"the name is the table's own, as in [{dotted(path[:-1])}.NAME]", (*path, key))
            elif other and key in keys_of(other):
                self._note(f"belongs to {KIND_OF[other]}, and this is {KIND_OF[cls]}", (*path, key))
            elif cls is EdgeConfig and (homes := homes_of(key)):
                self._note(f"unknown key here; belongs into {' or '.join(homes)}", (*path, key))
            else:
                hint = f"; {MISTAKEN[key]}" if key in MISTAKEN else suggestion(key, known)
                self._note(f"unknown key{hint}", (*path, key))

    def _value(self, field: Field[Any], raw: Mapping[str, Any], path: Path, default: Any) -> Any:
        """One field's value; its default, or a stand-in, where there is none or a bad one."""
        where = (*path, field.name)
        reads = field.metadata.get("reads")
        if reads == "reference":
            return reference_in(raw, field.name.removesuffix("_ref"))
        if is_secret(field.type):
            secret = self._secret(field.name, raw, path, is_needed=default is MISSING)
            return STAND_INS[field.name] if secret is None and default is MISSING else secret
        if field.name not in raw:
            if default is MISSING:
                self._note("is missing", where)
                return STAND_INS[field.name]
            return default
        if field.name == "servers" and not path:
            return self._servers(raw["servers"], where)
        if reads == "named":
            return self._named(get_args(field.type)[1], raw[field.name], where)
        cls = table_class(field.type)
        if cls is not None:
            read = self._table(cls, raw[field.name], where, base=default)
            if read is None:
                return stand_in_for(cls) if cls in STOOD_IN else default
            return read
        try:
            return self._leaf(field, raw[field.name], where)
        except BadValues as exc:
            self._note_all(exc, where)
            return STAND_INS[field.name] if default is MISSING else default

    def _leaf(self, field: Field[Any], value: Any, where: Path) -> Any:
        reads = field.metadata.get("reads")
        if isinstance(value, str) and reads == "one-or-more":
            return (value,)
        if isinstance(value, str) and reads == "words":
            try:
                return tuple(shlex.split(value))
            except ValueError as exc:
                raise bad(
                    f"cannot be split into words: {str(exc).lower()}; a list needs no quoting"
                ) from None
        if reads in ("one-or-more", "words") and not isinstance(value, list | tuple):
            raise bad(f"must be a string or a list of strings, not {kind(value)}")
        if field.type == Mapping[str, str]:
            if not isinstance(value, Mapping):
                raise bad(f"must be a table of strings, not {kind(value)}")
            return self._expanded_all(value, where)
        got = self._converter.structure(value, field.type)  # type: ignore[arg-type]  # a dataclass field's type is a type here
        if reads != "expanded":
            return got
        is_plain = has_plain_password(got) if field.name == "proxy" else has_plain_parameter(got)
        if is_plain and not self._allows_plain_secrets:
            self._note(NOT_PLAIN.format(BY_ENVIRONMENT) + OR_PLAIN, where)
        try:
            return expand(got, self._env)
        except ValueError as exc:
            self._note(str(exc), where)
            return with_stand_ins(got)

    def _expanded_all(self, texts: Mapping[str, object], where: Path) -> Mapping[str, str]:
        """Placeholders replaced in each value; a header that carries a credential must have one.

        A value that cannot be had is empty, so that the rules about its name are heard.
        """
        values: dict[str, str] = {}
        for name, text in texts.items():
            values[name] = ""
            if not isinstance(text, str):
                self._note(f"must be a string, not {kind(text)}", (*where, name))
                continue
            try:
                values[name] = expand(text, self._env)
            except ValueError as exc:
                self._note(str(exc), (*where, name))
                continue
            is_plain = (
                where[-1] in ("headers", "query")
                and SECRET_NAME.search(name)
                and not isinstance(values[name], Expanded)
            )
            if is_plain and not self._allows_plain_secrets:
                self._note(NOT_PLAIN.format(BY_ENVIRONMENT) + OR_PLAIN, (*where, name))
        return MappingProxyType(values)

    def _secret(
        self, name: str, raw: Mapping[str, Any], path: Path, *, is_needed: bool = False
    ) -> Secret | None:
        """What `X_env`, `X_file`, `X_credential` or, where that is allowed, plain `X` stands for."""
        given = [key for key in (name, *(f"{name}_{source}" for source in SOURCES)) if key in raw]
        if not given:
            if is_needed:
                ways = " or ".join(f"{name}_{source}" for source in SOURCES)
                self._note(f"is missing: {ways}", (*path, name))
            return None
        if len(given) > 1:
            self._note(f"only one of {', '.join(given)} can be used", (*path, given[1]))
            return None
        key, value = given[0], raw[given[0]]
        if not isinstance(value, str):
            self._note(f"must be a string, not {kind(value)}", (*path, key))
        elif key != name:
            try:
                return fetch_secret(key.removeprefix(f"{name}_"), value, self._env, self._read_secret)
            except ValueError as exc:
                self._note(str(exc), (*path, key))
        elif not self._allows_plain_secrets:
            ways = " or ".join(f"{name}_{source}" for source in SOURCES)
            self._note(NOT_PLAIN.format(ways) + OR_PLAIN, (*path, key))
        elif not value:
            self._note("must not be empty", (*path, key))
        else:
            return Secret(value)
        return None

    def _named(self, cls: type[T], raw: object, path: Path) -> Mapping[str, T]:
        """Tables `[TABLE.NAME]` of one class, sorted by name."""
        if not isinstance(raw, Mapping):
            self._note(f"must be tables [{dotted(path)}.NAME], not {kind(raw)}", path)
            return MappingProxyType({})
        tables: dict[str, T] = {}
        for key in sorted(raw, key=str):
            name = str(key)
            table = self._table(cls, raw[key], (*path, name), given={"name": name})
            tables[name] = stand_in_for(cls) if table is None else table
        return MappingProxyType(tables)

    def _servers(self, raw: object, path: Path) -> Mapping[str, ServerConfig]:
        if not isinstance(raw, Mapping):
            self._note(f"must be tables [servers.NAME], not {kind(raw)}", path)
            return MappingProxyType({})
        servers: dict[str, ServerConfig] = {}
        for name in sorted(raw, key=str):
            server = self._server(str(name), raw[name], (*path, str(name)))
            if server is not None:
                servers[server.name] = server
        return MappingProxyType(servers)

    def _server(self, name: str, raw: object, path: Path) -> ServerConfig | None:
        if not isinstance(raw, Mapping):
            self._note(f"must be a table, not {kind(raw)}", path)
            return None
        given: dict[str, Any] = {"name": name}
        if ("command" in raw) != ("url" in raw):
            if "command" in raw:
                return self._table(StdioServerConfig, raw, path, given=given)
            return self._table(HttpServerConfig, raw, path, given=given)
        count = "both" if "url" in raw else "neither"
        self._note(f"needs command (a server to start) or url (a server to call), and has {count}", path)
        known = (keys_of(StdioServerConfig) | keys_of(HttpServerConfig)).keys() - {"name"}
        self._check_keys(raw, known, path, None)
        # Its other keys are judged as those of the kind that it looks like.
        http, stdio = keys_of(HttpServerConfig), keys_of(StdioServerConfig)
        is_http = len(raw.keys() & http.keys()) > len(raw.keys() & stdio.keys())
        own, key = (http, "url") if is_http else (stdio, "command")
        rest = {name: value for name, value in raw.items() if name in own and name not in ("name", key)}
        given |= {key: STAND_INS[key]}
        self._table(HttpServerConfig if is_http else StdioServerConfig, rest, path, given=given)
        return None
