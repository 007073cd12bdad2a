"""Which values of a config must not show anywhere."""

from collections.abc import Iterator

from edge.config.model import EdgeConfig, StdioServerConfig
from edge.config.secrets import SECRET_NAME, Expanded, credentials_in, inserted_into, written_into


def secrets_of(config: EdgeConfig) -> Iterator[str]:
    """Every value in the config that must not show anywhere.

    What is put into a child's environment counts if its name says so, even where it stands in the file:
    `${HOME}` is no secret, and hiding it would blur every path in the log.
    """
    if config.admin.reload_token is not None:
        yield config.admin.reload_token.reveal()
    for uplink in config.uplinks.values():
        yield from inserted_into((uplink.url, uplink.proxy, *uplink.headers.values(), *uplink.query.values()))
        yield from (*written_into(uplink.url), *written_into(uplink.proxy))
        yield from (*credentials_in(uplink.headers), *credentials_in(uplink.query))
        if uplink.token is not None:
            yield uplink.token.reveal()
    hub = config.hub
    if hub is not None and hub.jwt is not None:
        yield hub.jwt.secret.reveal()
    if hub is not None and hub.webhook is not None:
        yield from (*inserted_into((hub.webhook.url,)), *written_into(hub.webhook.url))
        if hub.webhook.bearer is not None:
            yield hub.webhook.bearer.reveal()
    for server in config.servers.values():
        if isinstance(server, StdioServerConfig):
            named = [value for name, value in server.env.items() if SECRET_NAME.search(name)]
            yield from inserted_into(named)
            yield from (value for value in named if not isinstance(value, Expanded))
        else:
            yield from inserted_into((server.url, *server.headers.values()))
            yield from (*written_into(server.url), *credentials_in(server.headers))
            if server.bearer is not None:
                yield server.bearer.reveal()
