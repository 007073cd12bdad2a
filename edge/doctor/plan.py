"""All checks of a config, in the order in which they are told."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edge.config.model import EdgeConfig
from edge.doctor.commands import command_checks
from edge.doctor.files import file_checks
from edge.doctor.finding import Check
from edge.doctor.ports import port_checks
from edge.doctor.servers import server_checks
from edge.doctor.system import system_checks
from edge.doctor.uplinks import uplink_checks
from edge.redaction import Redactor


def checks_of(
    config: EdgeConfig,
    raw: Mapping[str, Any],
    path: Path | None,
    box: str,
    *,
    env: Mapping[str, str],
    read_secret: Callable[[str], str],
    learn: Callable[[str], None],
    redactor: Redactor,
    state: Path | None,
    offline: bool,
) -> Iterator[Check]:
    """`raw` is the config's TOML, `path` its file (None: the built-in default), `box` the name of this box."""
    yield from file_checks(config, raw, path, env, state)
    yield from command_checks(config, env)
    yield from port_checks(config)
    yield from server_checks(config, env, redactor, offline=offline)
    if not offline:
        yield from uplink_checks(config, box, env=env, read_secret=read_secret, learn=learn)
    yield from system_checks(config)
