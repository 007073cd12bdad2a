"""The state of one legacy session: what its client wants to hear, and has not been told yet.

Source: MCP 2025-11-25, Lifecycle, Logging, Resources (subscriptions). Pure: ids, time and delivery are the
driver's. A session is CREATED by `initialize` and INITIALIZED by the client's notification; requests are
served in both, because a client may send its first ones together with that notification.
"""

from typing import Final

from edge.errors import RpcError
from edge.proto.mcp import INVALID_PARAMS, LEVELS, passes

MAX_SUBSCRIPTIONS: Final = 1024
DEFAULT_LEVEL: Final = "info"
"""What a client hears that never said what it wants."""

LIST_KINDS: Final = ("prompts", "resources", "tools")
"""The lists whose change can be told, as in `notifications/KIND/list_changed`."""

LIMIT_REACHED: Final = -32603


class Session:
    """One client's session. `view` is the one server it sees, None for all; `version` is the negotiated one.

    `declared` names what it can be asked by servers (proto/questions.py).

    `dirty` has the list kinds that changed since the client was last told; at most one entry a kind.
    Limits: `max_subscriptions`.
    """

    __slots__ = (
        "_max_subscriptions",
        "_subscriptions",
        "declared",
        "dirty",
        "id",
        "last_used",
        "level",
        "version",
        "view",
    )

    def __init__(
        self,
        *,
        id: str,  # noqa: A002  MCP's word
        version: str,
        view: str | None,
        now: float,
        declared: frozenset[str] = frozenset(),
        max_subscriptions: int = MAX_SUBSCRIPTIONS,
    ) -> None:
        self.id = id
        self.version = version
        self.view = view
        self.declared = declared
        self.level: str | None = None
        self.dirty: set[str] = set()
        self.last_used = now
        self._subscriptions: set[str] = set()
        self._max_subscriptions = max_subscriptions

    # -- use

    def touch(self, now: float) -> None:
        self.last_used = max(self.last_used, now)

    # -- log messages

    def set_level(self, level: object) -> None:
        """Only messages of this level and above from now on; RpcError if it is none."""
        if not isinstance(level, str) or level not in LEVELS:
            raise RpcError(INVALID_PARAMS, f"params.level must be one of {', '.join(LEVELS)}")
        self.level = level

    def wants_log(self, level: str) -> bool:
        return passes(level, self.level or DEFAULT_LEVEL)

    # -- lists that changed

    def list_changed(self, kind: str) -> None:
        """Remember that a list changed; kept until told, however often it happens."""
        assert kind in LIST_KINDS
        self.dirty.add(kind)

    def take_dirty(self) -> list[str]:
        """What to tell the client now, in a fixed order; it counts as told."""
        changed = sorted(self.dirty)
        self.dirty.clear()
        return changed

    # -- resource subscriptions

    @property
    def subscriptions(self) -> frozenset[str]:
        return frozenset(self._subscriptions)

    def subscribe(self, uri: str) -> bool:
        """Whether that is new; RpcError when there are too many. A URI counts once."""
        if uri in self._subscriptions:
            return False
        if len(self._subscriptions) >= self._max_subscriptions:
            raise RpcError(
                LIMIT_REACHED,
                f"a session may have {self._max_subscriptions} subscriptions",
                '{"reason":"limit"}',
            )
        self._subscriptions.add(uri)
        return True

    def unsubscribe(self, uri: str) -> bool:
        """Whether there was such a subscription."""
        if uri not in self._subscriptions:
            return False
        self._subscriptions.remove(uri)
        return True
