"""Which values of a config, and of the environment that belongs to it, must not show anywhere."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from edge.config.model import EdgeConfig, StdioServerConfig
from edge.config.private import hidden_in, is_common, is_named_secret, secrets_within
from edge.config.secrets import Expanded, inserted_into


def secrets_of(config: EdgeConfig, env: Mapping[str, str]) -> Iterator[str]:
    """Every value in the config that must not show anywhere, and the passwords of the proxies that `env` names.

    What is put into a child's environment counts if its name or its form says so, even where it stands in the file:
    `${HOME}` is no secret, and hiding it would blur every path in the log.
    """
    for name, value in env.items():
        if name.lower().endswith("_proxy"):
            yield from of_proxy(value)
    if config.admin.reload_token is not None:
        yield config.admin.reload_token.reveal()
    for uplink in config.uplinks.values():
        yield from (*of_urls(uplink.url, uplink.proxy), *of_proxy(uplink.proxy))
        yield from (*of_fields(uplink.headers), *of_fields(uplink.query))
        if uplink.token is not None:
            yield uplink.token.reveal()
    hub = config.hub
    if hub is not None and hub.jwt is not None:
        yield hub.jwt.secret.reveal()
    if hub is not None and hub.webhook is not None:
        yield from of_urls(hub.webhook.url)
        if hub.webhook.bearer is not None:
            yield hub.webhook.bearer.reveal()
    for server in config.servers.values():
        if isinstance(server, StdioServerConfig):
            for name, value in server.env.items():
                yield from of_variable(name, value)
            for word in server.command:
                yield from secrets_within(word)
        else:
            yield from (*of_urls(server.url), *of_fields(server.headers))
            if server.bearer is not None:
                yield server.bearer.reveal()


def of_urls(*urls: str) -> Iterator[str]:
    """What placeholders put in, passwords, and parameters that are secrets by their names."""
    yield from (value for value in inserted_into(urls) if not is_common(value))
    for url in urls:
        yield from secrets_within(url)


def of_proxy(text: str) -> Iterator[str]:
    """The password, as it stands there and as it is meant, and what it is sent as (Basic authentication).

    The scheme may be missing. A text that is no good as a URL, as of a `/` or `?` that is not escaped, has one all the
    same: all from the first colon to the last `@`.
    """
    before_host = text.strip().rpartition("@")[0]
    scheme, _, credentials = before_host.partition("://")
    user, _, password = (credentials or scheme).partition(":")
    if password:
        yield from (password, unquote(password))
        for pair in (f"{user}:{password}", f"{unquote(user)}:{unquote(password)}"):
            yield b64encode(pair.encode(errors="surrogatepass")).decode()


def of_fields(fields: Mapping[str, str]) -> Iterator[str]:
    """The same of headers or parameters: those too that are secrets by their names."""
    yield from (value for value in inserted_into(fields.values()) if not is_common(value))
    for name, value in fields.items():
        if not is_plain_word(value):
            yield from hidden_in(name, value)


def of_variable(name: str, value: str) -> Iterator[str]:
    """Of a child's environment: only what was put in is hidden of a text with placeholders."""
    if isinstance(value, Expanded) and is_named_secret(name, value):
        yield from (each for each in inserted_into((value,)) if not is_common(each))
        yield from secrets_within(value)
    elif not is_plain_word(value):
        yield from hidden_in(name, value)


def is_plain_word(value: str) -> bool:
    """Such words stand in every log: hiding them would blur it, and as they are in the file they are no secret."""
    return len(value) < 8 and (value.isdecimal() or (value.isalpha() and value.islower()))
