"""The connector: one uplink of the config, that is one link for each name it publishes, each kept up by itself.

Each link reports as `uplink:NAME` (all servers under one name) or `uplink:NAME/SERVER`. When the uplink is stopped,
its links let calls in flight end and leave in an orderly way; its slot bounds that.
"""

import random
import secrets
from collections.abc import Callable, Mapping

import trio

from edge import __version__
from edge.backoff import Backoff
from edge.config.uplinks import UplinkConfig
from edge.health import Status
from edge.metrics import Metrics
from edge.net.file_reader import FileReader
from edge.parts import wake
from edge.parts.gateway import Gateway
from edge.parts.kept_link import KeptLink
from edge.parts.link import Link
from edge.parts.link_face import LinkFace
from edge.parts.link_names import LinkNames
from edge.parts.link_store import LinkStore
from edge.parts.sessions import Sessions
from edge.parts.uplink_way import Way
from edge.parts.views import group_key


class Uplink:
    """A part. `links` are the names it publishes, each with the server behind it (`UplinkConfig.links`).

    `names` are those that links have at their hubs, of all uplinks there are. `add_status` makes the status of a key;
    `env`, `read_secret` and `learn` are for tokens that are read again (parts/uplink_way.py).
    """

    def __init__(
        self,
        config: UplinkConfig,
        links: Mapping[str, str | None],
        *,
        gateway: Gateway,
        sessions: Sessions,
        metrics: Metrics,
        names: LinkNames,
        add_status: Callable[[str], Status],
        store: LinkStore,
        env: Mapping[str, str],
        read_secret: Callable[[str], str],
        learn: Callable[[str], None],
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.name = config.name
        self._config = config
        self._gateway = gateway
        self._sessions = sessions
        self._metrics = metrics
        self._names = names
        self._add_status = add_status
        self._store = store
        self._env = env
        self._read_secret = read_secret
        self._learn = learn
        self._files = FileReader()
        self._rng = rng
        self._home: trio.Nursery | None = None
        self._intake: trio.CancelScope | None = None
        self._leaving: set[KeptLink] = set()
        self.links = [self._kept(name, server) for name, server in links.items()]

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED) -> None:
        self._intake = None
        try:
            async with trio.open_nursery() as nursery:
                self._home = nursery
                for link in self.links:
                    nursery.start_soon(self._follow, link)
                nursery.start_soon(self._watch)
                with trio.CancelScope() as self._intake:
                    task_status.started(self._intake)
                    await trio.sleep_forever()
                async with trio.open_nursery() as stopping:
                    for link in (*self.links, *self._leaving):
                        stopping.start_soon(link.stop)
                nursery.cancel_scope.cancel()
        finally:
            self._home = None

    def update(self, links: Mapping[str, str | None], leave_s: float) -> None:
        """Keep up these links from now on, with the settings as they are: those that stay do not notice.

        The others let their calls end, up to `leave_s`. No checkpoint.
        """
        stay = {link.name: link for link in self.links}
        gone = [link for name, link in stay.items() if name not in links]
        new = [self._kept(name, server) for name, server in links.items() if name not in stay]
        self.links = [stay[name] for name in links if name in stay] + new
        if self._home is None or self._is_stopping:
            return  # its next run starts what is there then
        for link in gone:
            self._leaving.add(link)
            self._home.start_soon(self._leave, link, leave_s)
        for link in new:
            self._home.start_soon(self._follow, link)

    async def _leave(self, link: KeptLink, leave_s: float) -> None:
        try:
            with trio.move_on_after(leave_s):
                await link.stop()
            link.abandon()
            await link.wait_ended()
        finally:
            self._leaving.remove(link)

    async def _follow(self, link: KeptLink) -> None:
        """Nobody may want it any more when its turn comes."""

        def waits() -> None:
            link.status.starting("waits until another one of its name has left")

        def in_force() -> bool:
            return link in self.links and not self._is_stopping

        async with self._names.hold(self._config, link.name, waits, in_force=in_force):
            if in_force():
                await link.run()

    @property
    def _is_stopping(self) -> bool:
        """From the very step in which it is told to: others may go by it in the next."""
        return self._intake is not None and self._intake.cancel_called

    @property
    def statuses(self) -> list[Status]:
        """Where each link stands."""
        return [link.status for link in self.links]

    async def wait_settled(self) -> None:
        """Until each link has been ready, or has failed, for the first time."""
        for link in self.links:
            await link.wait_settled()

    async def _watch(self) -> None:
        await wake.watch(self._woken, each=self._refresh)

    def _woken(self) -> None:
        for link in self.links:
            link.wake()

    def _refresh(self) -> None:
        for link in self.links:
            link.refresh()

    def _kept(self, name: str, server: str | None) -> KeptLink:
        config = self._config
        retry = config.reconnect
        extra: dict[str, object] = {"uplink": config.name, "link": name}
        view_key = server if server is not None else group_key(config.name)
        about = "all servers" if server is None else f"server {server}"
        way = Way(
            config,
            name,
            f"{about} behind {name}, by mcp-edge {__version__}",
            env=self._env,
            read_secret=self._read_secret,
            learn=self._learn,
            files=self._files,
            store=self._store,
            new_id=new_id,
            rng=self._rng,
        )

        def make_face(link: Link) -> LinkFace:
            return LinkFace(
                link,
                self._gateway,
                self._sessions,
                view_key,
                metrics=self._metrics,
                max_calls=config.max_calls,
                extra=extra,
                # Between our own ends everything goes both ways; of the others, one dialect has a way for it.
                can_ask=link.numbered is not None or config.dialect == "mcp-reverse",
            )

        return KeptLink(
            name,
            way,
            make_face,
            status=self._add_status(
                f"uplink:{config.name}" if server is None else f"uplink:{config.name}/{server}"
            ),
            metrics=self._metrics.link(config.name, server or "", config.dialect),
            backoff=Backoff(retry.first_s, retry.limit_s, rng=self._rng, forgive_after_s=config.good_after_s),
            slow_s=retry.limit_s,
            good_after_s=config.good_after_s,
            max_attempts=retry.max_attempts,
            max_message_bytes=config.max_message_bytes,
            resume=config.resume,
            remember=way.remember if config.dialect == "long-poll" else None,
            rng=self._rng,
            extra=extra,
            detail={"dialect": config.dialect, "url": config.shown_url, "published_as": name},
            shows_session=config.dialect == "contextforge",
        )


def new_id() -> str:
    """128 random bits."""
    return secrets.token_hex(16)
