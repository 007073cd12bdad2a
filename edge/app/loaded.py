"""A config as it was loaded, with what belongs to it and does not stand in it."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edge.config.diff import ControlSpec, PartKey, PartSpec, parts_of
from edge.config.model import EdgeConfig

BUILT_IN = "built-in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """`source` is what the operator calls it. `control` is where `mcp-edge reload` finds us; None: nowhere.

    `digests` are those of the files that TLS is made from, by path: a renewed certificate is a change. `warnings`
    are sentences about what is allowed and unwise.
    """

    config: EdgeConfig
    source: str = BUILT_IN
    control: ControlSpec | None = None
    digests: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[PartKey, PartSpec]:
        return parts_of(self.config, digests=self.digests, control=self.control)


def name_of(loaded: Loaded) -> str:
    """What the box is called by this config."""
    return loaded.config.name or socket.gethostname()


Load = Callable[[], Loaded]
"""Loads the config as it is now, as at the start. Reads files, so it may take its time. Raises: ConfigError."""
