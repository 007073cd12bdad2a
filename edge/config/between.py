"""Rules of the config that need more than one table to be seen."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from edge.config.address import parse_address, reaches
from edge.config.common import MAX_NAME_CHARS, check_name
from edge.config.exact import suggestion
from edge.config.model import EdgeConfig, HttpServerConfig, UplinkConfig
from edge.config.rules import BadValues, Finding, Rules

STAND_IN_HOST = "invalid"  # RFC 2606: in a URL whose real one could not be read


def findings_between(
    config: EdgeConfig, *, servers: Collection[str], published: Mapping[str, Sequence[object]]
) -> Iterator[Finding]:
    """What is wrong between tables; `servers` are the names of all servers, `published` what each uplink lists: also
    of those that broke a rule."""
    yield from of_names(config)
    yield from of_addresses(config)
    for name, uplink in config.uplinks.items():
        if uplink.name == name:  # else it only stands for one that broke a rule
            yield from of_uplink(config, name, uplink, servers)
    yield from of_published(published, servers)
    yield from of_same_links(config, servers)
    if not config.gateway.enabled and not config.uplinks:
        text = "is false, and there is no [uplinks.NAME]: nobody could call a server"
        yield Finding(("gateway", "enabled"), text)


def of_names(config: EdgeConfig) -> Iterator[Finding]:
    """Names of servers and edges: both stand before the names of tools."""
    gateway = config.gateway
    owners: list[tuple[str, ...]] = [("servers", name) for name in config.servers]
    if config.hub is not None:
        # One of another name only stands for an edge that broke a rule.
        owners += [("hub", "edges", key) for key, edge in config.hub.edges.items() if edge.name == key]
    for path in owners:
        name = path[-1]
        start = (name + gateway.separator).find(gateway.separator)
        if gateway.prefix != "never" and start != len(name):
            yield Finding(path, f"the name must not hold or run into gateway.separator ({gateway.separator})")
        if path[0] == "hub" and name in config.servers:
            yield Finding(path, "there is a server of this name, too, and an edge is a server to clients")


def of_addresses(config: EdgeConfig) -> Iterator[Finding]:
    """Calls that would come back to us, and listeners that would be in each other's way."""
    gateway, hub = config.gateway, config.hub
    endpoint = gateway.listen if gateway.enabled else ()
    for_edges = hub.listen if hub is not None else ()
    for name, server in config.servers.items():
        if isinstance(server, HttpServerConfig) and is_ours(server.url, endpoint):
            text = "is this gateway's own address (gateway.listen): it would gather itself without end"
            yield Finding(("servers", name, "url"), text)
    for name, uplink in config.uplinks.items():
        if is_ours(uplink.url, (*endpoint, *for_edges)):
            text = "is our own address: what is published there would be gathered here without end"
            yield Finding(("uplinks", name, "url"), text)
    for address in for_edges:
        if address in endpoint and not address.endswith(":0"):
            yield Finding(("hub", "listen"), "is the address of the gateway, too")
    if config.admin.enabled and not config.admin.listen.endswith(":0"):
        for owner, taken in (("gateway", endpoint), ("hub", for_edges)):
            if config.admin.listen in taken:
                yield Finding(("admin", "listen"), f"is the address of the {owner}, too")


def is_ours(url: str, listen: Sequence[str]) -> bool:
    """A URL, which is good as such, leads to one of our own listeners."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme in ("https", "wss") else 80)
    return any(reaches(parts.hostname or "", port, parse_address(text)) for text in listen)


def of_uplink(
    config: EdgeConfig, name: str, uplink: UplinkConfig, servers: Collection[str]
) -> Iterator[Finding]:
    """What an uplink publishes, and by which names."""
    path = ("uplinks", name)
    if not servers and (uplink.publish == "each" or config.hub is None):
        yield Finding(path, "has nothing to publish: there is no [servers.NAME]")
    if not uplink.link_name and config.name:
        rules = Rules()
        check_name(rules, config.name, "a link", "link_name")
        try:
            rules.enforce()
        except BadValues as exc:
            text = f"is needed, as the box's name cannot be a link's: {exc.findings[0].text}"
            yield Finding((*path, "link_name"), text)
            return
    base = uplink.link_name or config.name
    for link in uplink.links(base, sorted(servers)):
        if base and len(link) > MAX_NAME_CHARS:
            text = f"must be shorter: the link {link} has {len(link)} characters, of {MAX_NAME_CHARS}"
            yield Finding((*path, "link_name"), text)


def of_published(published: Mapping[str, Sequence[object]], servers: Collection[str]) -> Iterator[Finding]:
    """What uplinks list that is not there."""
    for name, wanted in published.items():
        for index, server in enumerate(wanted):
            if isinstance(server, str) and server not in servers:
                text = f"there is no [servers] table of this name{suggestion(server, servers)}"
                yield Finding(("uplinks", name, "servers", index), text)


def of_same_links(config: EdgeConfig, servers: Collection[str]) -> Iterator[Finding]:
    """Two links of one name to one hub would throw each other out, again and again."""
    owners: dict[tuple[object, ...], str] = {}
    for name, uplink in config.uplinks.items():
        hub = hub_of(uplink)
        if hub is None:
            continue
        for link in uplink.links(config.name, sorted(servers)):
            owner = owners.setdefault((*hub, link), name)
            if owner != name:
                shown = link if config.name or uplink.link_name else f"(the host's name){link}"
                text = f"keeps up the link {shown} to the same url as uplinks.{owner}: give one a link_name"
                yield Finding(("uplinks", name), text)
                break


def hub_of(uplink: UplinkConfig) -> tuple[object, ...] | None:
    """Equal for uplinks that lead to the same place, as far as names tell; None: it cannot be told."""
    place = host_of(uplink)
    if place is None:
        return None
    parts = urlsplit(uplink.url)
    query = (parts.query, *sorted(uplink.query.items()))
    return (*place, parts.path.rstrip("/"), query)


def host_of(uplink: UplinkConfig) -> tuple[str, int] | None:
    """Where its hub listens: host and port. There may be several hubs by path or query; but one hub has several paths,
    by dialect."""
    parts = urlsplit(uplink.url)
    if parts.hostname is None or parts.hostname == STAND_IN_HOST:
        return None
    return parts.hostname, parts.port or (443 if uplink.is_tls else 80)
