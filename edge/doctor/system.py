"""What lies below: Python, the trust store, how many files may be open, the clock."""

import resource
import ssl
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from edge.config.model import EdgeConfig, HttpServerConfig
from edge.doctor.finding import Check, Report, at_once
from edge.net.tls import client_context

SECTION = "system"
SPARE_FILES = 64
FILES_A_SERVER = 8  # three pipes, its pidfd, and what starting it takes
EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)  # before this was written


def system_checks(config: EdgeConfig | None) -> Iterator[Check]:
    yield Check(SECTION, "python", at_once(look_at_python))
    count = client_context().cert_store_stats()["x509_ca"]
    folder = ssl.get_default_verify_paths().capath
    yield Check(SECTION, "trust store", at_once(look_at_trust, config, count, folder))
    if config is not None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield Check(SECTION, "open files", at_once(look_at_files, config, limit))
    yield Check(SECTION, "clock", at_once(look_at_clock, datetime.now(UTC)))


def look_at_python(report: Report) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    report.ok(f"{version} on {sys.platform}, {ssl.OPENSSL_VERSION}")


def needs_trust(config: EdgeConfig) -> bool:
    """Somebody is called over TLS, and is not known by an authority of the config alone."""
    urls = [uplink.url for uplink in config.uplinks.values()]
    urls += [server.url for server in config.servers.values() if isinstance(server, HttpServerConfig)]
    return any(url.lower().startswith(("https:", "wss:")) for url in urls)


def look_at_trust(report: Report, config: EdgeConfig | None, count: int, folder: str | None) -> None:
    """`count` authorities are loaded; those in `folder` are when they are needed."""
    if count or folder:
        report.ok(f"{count} authorities" if count else f"the folder {folder}")
        return
    text, advice = (
        "there are no authorities to know TLS servers by",
        "install ca-certificates, or set ca_file",
    )
    if config is not None and needs_trust(config):
        report.problem(text, advice)
    else:
        report.warning(text, advice)


def look_at_files(report: Report, config: EdgeConfig, limit: int) -> None:
    wanted = SPARE_FILES + config.gateway.max_connections + FILES_A_SERVER * len(config.servers)
    if config.hub is not None:
        wanted += config.hub.max_links
    if limit != resource.RLIM_INFINITY and limit < wanted:
        advice = f"LimitNOFILE={wanted} in the unit, or `ulimit -n {wanted}`"
        report.warning(f"{limit} may be open, and as many as {wanted} could be needed", advice)
    else:
        report.ok(f"{limit} may be open" if limit != resource.RLIM_INFINITY else "no limit")


def look_at_clock(report: Report, now: datetime) -> None:
    if now < EARLIEST:
        report.problem(
            f"says {now:%Y-%m-%d}: certificates and tokens cannot be judged", "set it, and run an NTP client"
        )
    else:
        report.ok(f"{now:%Y-%m-%d %H:%M:%S} UTC")
