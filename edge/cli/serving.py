"""What `run` and `connect` share: logging set up, the appliance served, and how its end becomes an exit code."""

import dataclasses
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import trio

from edge import __version__
from edge.app.appliance import App
from edge.app.loaded import Loaded
from edge.app.secret_values import secrets_of
from edge.cli import exit_codes, guard
from edge.cli.configfile import secret_reader
from edge.cli.output import harmless, hiding, say
from edge.config.model import EdgeConfig, LogConfig, StdioServerConfig
from edge.errors import ConfigError, EdgeError, leaves
from edge.health import Status
from edge.log import set_up
from edge.net.addresses import Addresses
from edge.net.cgroup import Delegated, NotDelegated, claim
from edge.net.listen import inherited_from
from edge.redaction import Redactor
from edge.supervise.sd_notify import SdNotify

log = logging.getLogger("edge.run")


def serve(
    load: Callable[[str | None], Loaded],
    announcement: Callable[[App], str],
    *,
    level: str | None,
    format: str | None,  # noqa: A002  the config's word
    reloads: bool = True,
    gives_up: bool = False,
) -> int:
    """Serve until SIGTERM or SIGINT: 0. It cannot start, or (if `gives_up`) all uplinks have: 69.

    `load` gives the config, and again for each reload (unless `reloads` is False), which it tells the source of the one
    in force; `level` and `format` are what the
    command line puts in place of the config's.
    Raises: ConfigError, and whatever bug ends the process, in groups.
    """

    app: App | None = None

    def load_as_told() -> Loaded:
        loaded = load(None if app is None else app.loaded.source)
        log_config = loaded.config.log
        chosen = LogConfig(level=level or log_config.level, format=format or log_config.format)  # type: ignore[arg-type]  # the argument tree has the same choices
        return dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, log=chosen))

    loaded = load_as_told()
    config = loaded.config
    redactor = Redactor()
    env = dict(os.environ)
    redactor.redact(secrets_of(config, env))
    hiding.clean = redactor.clean  # also in the traceback of a bug that ends us
    set_up(config.log.level, config.log.format, redactor=redactor)
    for text in loaded.warnings:
        log.warning(text)
    app = App(
        loaded,
        redactor=redactor,
        load=load_as_told if reloads else None,
        env=env,
        read_secret=secret_reader(),
        state=state_directory(env),
        addresses=Addresses(inherited_from(env, os.getpid())),
        notify=SdNotify.from_env(env, os.getpid()),
        gives_up=gives_up,
        cgroups=claimed_cgroups(config),
    )
    log.info(
        "starting",
        extra={"version": __version__, "config": loaded.source, "servers": len(config.servers)},
    )

    def announce(app: App) -> None:
        say("\n".join(harmless(line) for line in announcement(app).split("\n")))

    try:
        trio.run(guarded, app, announce)
    except Exception as exc:
        # The nurseries' groups hold one cause each; what was expected to be possible is said in a line of its own.
        parts = list(leaves(exc)) if isinstance(exc, BaseExceptionGroup) else [exc]
        if all(isinstance(part, EdgeError) and not isinstance(part, ConfigError) for part in parts):
            for part in parts:
                say(f"mcp-edge: {harmless(str(part))}", err=True)
            return exit_codes.UNAVAILABLE
        raise
    return exit_codes.OK


def claimed_cgroups(config: EdgeConfig) -> Delegated | None:
    """The cgroup that is ours to divide up among the servers, if one is; what that means for limits is logged."""
    limits = [server.limits for server in config.servers.values() if isinstance(server, StdioServerConfig)]
    has_limits = any(each.memory_bytes or each.processes for each in limits)
    ours = {os.getpid()} if guard.lifeline is None else {os.getpid(), os.getppid()}
    try:
        found = claim(os.environ, frozenset(ours))
    except NotDelegated as exc:
        if has_limits:
            log.info("limits of servers are watched, not enforced by the kernel", extra={"reason": str(exc)})
        return None
    extra = {"cgroup": str(found.path), "controllers": " ".join(sorted(found.controllers)) or "none"}
    log.info("servers get cgroups of their own", extra=extra)
    if n_stale := found.clear():
        log.warning("servers of a predecessor were still there: ended", extra={"cgroups": n_stale})
    return found


async def guarded(app: App, announce: Callable[[App], None]) -> None:
    """`app.run`, as long as the guard lives, if there is one: without it nobody would end our servers after us."""
    async with trio.open_nursery() as nursery:
        if guard.lifeline is not None:
            nursery.start_soon(end_with_the_guard, guard.lifeline, nursery.cancel_scope)
        await app.run(announce)
        nursery.cancel_scope.cancel()


async def end_with_the_guard(lifeline: int, everything: trio.CancelScope) -> None:
    await trio.lowlevel.wait_readable(lifeline)
    log.error("the guard was killed: ending at once")
    guard.end_all()  # no grace: whoever killed the guard wanted us to be gone by now
    everything.cancel()


def server_lines(app: App) -> list[str]:
    """Each server, and how many tools it has, or why it has none."""
    lines: list[str] = []
    for name, upstream in sorted(app.upstreams.items()):
        state = upstream.status
        count = len(upstream.catalog.tools)
        tools = "1 tool" if count == 1 else f"{count} tools"
        lines.append(
            f"  server    {name}: {tools if upstream.is_ready else f'{state.state}: {state.reason}'}"
        )
    return lines


def why_down(status: Status) -> str:
    """What a link that is not up says for itself, and when it is tried again; "" if there is nothing to say."""
    wait_s = status.next_attempt_in_s
    again = "" if wait_s is None else f"; trying again in {math.ceil(wait_s)} s"
    return f"{status.reason}{again}" if status.reason else ""


def state_directory(env: Mapping[str, str]) -> Path | None:
    """Where we may keep what should outlive us: systemd's StateDirectory, or the user's own place for that."""
    if env.get("STATE_DIRECTORY"):
        return Path(env["STATE_DIRECTORY"].partition(":")[0])
    if env.get("XDG_STATE_HOME"):
        return Path(env["XDG_STATE_HOME"], "mcp-edge")
    return Path(env["HOME"], ".local/state/mcp-edge") if env.get("HOME") else None
