"""A reload: load, compare, build, start beside, put in force in one step, and let what was replaced drain.

All or nothing. Until the step that puts it in force everything can still be refused, and then nothing has changed:
what was built is thrown away, what had been started is stopped. After it nothing can fail any more, so a config that
turns out bad is taken back by the same way (`confirm_s`).
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Any

import trio

from edge.app.loaded import Load, Loaded, name_of
from edge.app.memory import settle_memory
from edge.app.secret_values import secrets_of
from edge.app.standing import Standing, standing
from edge.app.workshop import Built
from edge.config.diff import (
    Changes,
    PartKey,
    PartSpec,
    addresses_of,
    changes_between,
    lives_twice,
    settings_between,
    shown,
)
from edge.config.model import EdgeConfig
from edge.errors import ConfigError, EdgeError, Problem, leaves
from edge.health import LastReload, Result
from edge.log import set_up
from edge.parts.listener import Listener
from edge.parts.upstream import Upstream
from edge.supervise.reload import ReloadOptions, Verdict

if TYPE_CHECKING:
    from edge.app.appliance import App

log = logging.getLogger("edge.reload")

LOAD_S = 30.0
SETTLE_S = 10.0
"""How long a server that is started beside its predecessor may take before it is put in force as it is."""

VERDICT_S = 60.0
"""What a verdict takes at most, beside what was asked for: the config before is put back, and its listeners start."""

STEADY_S = 1.0
LOOK_S = 0.1
HANGS = "the reload before this one still waits for its files; is a mount not answering?"
NO_FILE = "there is no config that could be loaded again: it came from the command line"


def options(plan: bool, confirm_s: float) -> ReloadOptions:
    return ReloadOptions(plan=plan, confirm_s=0.0 if plan else confirm_s)


class Reloading:
    """Applies configs to `app`, one at a time."""

    def __init__(self, app: "App", load: Load | None, *, load_limit_s: float = LOAD_S) -> None:
        self._app = app
        self._load = load
        self._load_limit_s = load_limit_s
        # One that hangs keeps its thread. It must not be one of those that look up hosts' names for everybody.
        self._loading = trio.CapacityLimiter(1)

    async def apply(self, asked: ReloadOptions) -> Verdict:
        """Load the config and put it in force. What is wrong with it is in the verdict."""
        app = self._app
        tells = not (asked.plan or app.is_stopping)
        if tells:
            app.notify.reloading()
            self._show(is_reloading=True)
        verdict = await self._judge(asked)
        if tells and not app.is_stopping:
            app.notify.ready(app.sentence())
        if not asked.plan:
            self._note(verdict)
        return verdict

    async def _judge(self, asked: ReloadOptions) -> Verdict:
        app = self._app
        before = app.loaded
        loaded: Loaded | None = None
        try:
            if self._load is None:
                raise ConfigError([Problem("", NO_FILE)])
            loaded = await self._read(self._load)
            changes = changes_from(before, loaded)
            if asked.plan or changes.is_empty:
                return verdict_of("planned" if asked.plan else "unchanged", loaded, changes)
            good = standing(app.health.statuses.values())
            late = await self._converge(loaded, changes, confirm_s=asked.confirm_s)
            settle_memory()
        except Exception as exc:  # a request's boundary: what is wrong with it must not end what runs
            source = before.source if loaded is None else loaded.source
            return Verdict(result="refused", source=source, problems=tuple(problems_of(exc)))
        if asked.confirm_s and (missing := await self._missing_after(good, asked.confirm_s)):
            text = f"was good, and is not good again after {asked.confirm_s:g} s"
            found = [Problem(key, f"{text}: {reason}") for key, reason in missing]
            try:
                await self._converge(before, changes_from(loaded, before), is_back=True)
            except Exception as exc:  # the same boundary: what it needs may have gone meanwhile
                found += [Problem(place, f"cannot be put back: {why}") for place, why in problems_of(exc)]
                return verdict_of("not rolled back", loaded, changes, problems=found)
            return verdict_of("rolled back", loaded, changes, problems=found)
        return verdict_of("reloaded", loaded, changes, warnings=self._doubts(changes, late))

    async def _read(self, load: Load) -> Loaded:
        """What `load` gives; it reads files, which may hang for longer than the rest of us has to live. Raises:
        ConfigError, at once as long as an earlier one hangs."""
        if not self._loading.available_tokens:
            raise ConfigError([Problem("", HANGS)])
        loaded: Loaded | None = None
        with trio.move_on_after(self._load_limit_s):
            loaded = await trio.to_thread.run_sync(load, abandon_on_cancel=True, limiter=self._loading)
        if loaded is None:
            text = f"its files could not be read within {self._load_limit_s:g} s"
            raise ConfigError([Problem("", text)])
        return loaded

    def _doubts(self, changes: Changes, late: Set[PartKey]) -> tuple[str, ...]:
        """What is in force now and does not work: servers that are not up yet, sockets that nobody answers.

        What is `late` has only begun, so nothing can be said of it yet."""
        app = self._app
        names = [
            name
            for kind, name in (*changes.added, *changes.restarted)
            if kind == "upstream" and (kind, name) not in late
        ]
        states = [(name, app.upstreams[name].status) for name in names if name in app.upstreams]
        found = [
            f"servers.{name}: {status.state}{f': {status.reason}' if status.reason else ''}"
            for name, status in states
            if not status.is_good
        ]
        found += [
            f"systemd listens on {address}, and nobody answers there" for address in app.sockets.unused()
        ]
        return tuple(found)

    async def _converge(
        self, loaded: Loaded, changes: Changes, *, confirm_s: float = 0.0, is_back: bool = False
    ) -> set[PartKey]:
        """`is_back`: to what was in force before, which waits for no server. Returns what starts only after it.

        Raises: ConfigError, EdgeError, maybe in a group; nothing has changed then.
        """
        app = self._app
        specs, config, present = loaded.parts, loaded.config, app.loaded.config
        app.redactor.redact(secrets_of(config, app.env))
        new_keys = (*changes.added, *changes.restarted)
        late = {key for key in new_keys if self._is_late(key, specs[key])}
        new: dict[PartKey, Built] = {}
        updates: list[Callable[[], None]] = []

        async def settle() -> None:
            with trio.move_on_after(0 if is_back else SETTLE_S):
                for key, built in new.items():
                    if isinstance(built.subject, Upstream) and key not in late:
                        await built.subject.wait_settled()

        is_in_force = False

        def commit() -> None:
            nonlocal is_in_force
            is_in_force = True
            hand_over()
            self._show(source=loaded.source, loaded_at=app.metrics.wall())
            for key in changes.removed:
                del app.built[key]
            for key, built in new.items():
                older = app.built.get(key)
                if older is not None and isinstance(older.subject, Upstream):
                    built.subject.succeed(older.subject)
                if older is not None and isinstance(older.subject, Listener):
                    older.subject.give_way()
                app.built[key] = built
            for update in updates:
                update()
            for key in changes.updated:
                app.built[key].spec = specs[key]
            if config.log != app.loaded.config.log:
                set_up(config.log.level, config.log.format, redactor=app.redactor)
            app.loaded = loaded
            app.put_in_force()

        try:
            box = name_of(loaded)
            for key in new_keys:
                is_late = is_back or key in late
                new[key] = app.workshop.build(key, specs[key], loaded, box, is_late=is_late)
            updates += [app.built[key].update(specs[key], loaded) for key in changes.updated]
            with app.sockets.changing(addresses_of(specs)) as hand_over:
                await app.supervisor.replace(
                    {key: built.slot for key, built in new.items()},
                    removed=changes.removed,
                    late=late,
                    settle=settle,
                    commit=commit,
                    drain_s=lambda kind: drain_of(kind, present, config, confirm_s),
                )
        finally:
            # What is in force is the newest again, whatever came of it: refused ones must not make it forgotten.
            app.redactor.redact(secrets_of(app.loaded.config, app.env))
            if not is_in_force:
                app.show()  # what was built, and what came to it, may have left a name in health or metrics
        return late

    def _is_late(self, key: PartKey, spec: PartSpec) -> bool:
        """Whether it waits until its predecessor has ended; links out always wait for what goes with them."""
        if key[0] == "uplink":
            return True
        if self._app.supervisor.is_leaving(key):  # its removal has not come to an end yet
            return not lives_twice(spec)
        older = self._app.built.get(key)
        return older is not None and not (lives_twice(older.spec) or lives_twice(spec))

    async def _missing_after(self, before: Standing, limit_s: float) -> list[tuple[str, str]]:
        """What of it is not good again within `limit_s`, and why; nothing as soon as all has been good for a while."""
        statuses = self._app.health.statuses
        steady_since: float | None = None
        with trio.move_on_after(limit_s):
            while True:
                now = trio.current_time()
                if self._app.is_stopping:
                    return []
                if next(before.lost(statuses.values()), None) is None:
                    steady_since = now if steady_since is None else steady_since
                    if now - steady_since >= STEADY_S:
                        return []
                else:
                    steady_since = None
                await trio.sleep(LOOK_S)
        lost = sorted(before.lost(statuses.values()), key=lambda status: status.key)
        return [(status.key, status.reason or status.state) for status in lost]

    def _show(self, **changes: Any) -> None:
        """In health, whose `config` has these fields."""
        health = self._app.health
        if health.config is not None:
            health.config = dataclasses.replace(health.config, **changes)

    def _note(self, verdict: Verdict) -> None:
        """In health, log and metrics."""
        metrics = self._app.metrics
        self._show(
            is_reloading=False,
            last_reload=LastReload(at=metrics.wall(), result=verdict.result, problems=verdict.problems),
        )
        metrics.config_reloads.add("success" if verdict.is_good else "error")
        metrics.config_last_reload_ok = verdict.is_good
        if verdict.is_good:
            metrics.config_last_reload_ts = metrics.wall()
        for warning in verdict.warnings if verdict.result == "reloaded" else ():
            log.warning(warning)
        if verdict.problems:
            for problem in verdict.problems:
                extra = problem._asdict()  # by the names that they have in a verdict
                match verdict.result:
                    case "refused":
                        log.error("reload refused", extra=extra)
                    case "rolled back":
                        log.error("reload taken back", extra=extra)
                    case _:
                        log.error("reload cannot be taken back, it stays in force", extra=extra)
            return
        counts = {
            "added": ", ".join(verdict.added),
            "removed": ", ".join(verdict.removed),
            "restarted": ", ".join(verdict.restarted),
            "updated": ", ".join(verdict.updated),
        }
        extra = {"config": verdict.source, **{name: text for name, text in counts.items() if text}}
        if verdict.result == "reloaded":
            log.info("config reloaded", extra=extra)
        else:
            log.info("config unchanged", extra=extra)


def longest_call_s(config: EdgeConfig) -> float:
    """The longest time that any call may take."""
    hub_s = 0.0 if config.hub is None else config.hub.call_timeout_s
    return max(
        config.gateway.call_timeout_s, hub_s, *(s.call_timeout_s for s in config.servers.values()), 0.0
    )


def drain_of(kind: str, older: EdgeConfig, config: EdgeConfig, confirm_s: float) -> float:
    """How long what is out of force may take. Nobody waits for it, and only a server can tell a call that it is cut
    off: a listener's connections go on until their calls have ended, which have a time limit of their own; whoever
    asked for this reload gets the verdict by the way that they asked."""
    gateway = config.gateway
    match kind:
        case "listener":
            return max(gateway.drain_s, *map(longest_call_s, (older, config))) + VERDICT_S
        case "admin" | "control":
            return gateway.drain_s + confirm_s + VERDICT_S
        case _:
            return gateway.drain_s


def changes_from(old: Loaded, new: Loaded) -> Changes:
    return changes_between(old.parts, new.parts, settings_between(old.config, new.config))


def verdict_of(
    result: Result,
    loaded: Loaded,
    changes: Changes,
    *,
    problems: Sequence[Problem] = (),
    warnings: Sequence[str] = (),
) -> Verdict:
    def names(keys: Sequence[PartKey]) -> tuple[str, ...]:
        return tuple(map(shown, keys))

    def edges(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"edge {name}" for name in names)

    of_hub = changes.edges
    updated = dict.fromkeys((*names(changes.updated), *edges(of_hub.updated), *changes.settings))
    return Verdict(
        result=result,
        source=loaded.source,
        added=(*names(changes.added), *edges(of_hub.added)),
        removed=(*names(changes.removed), *edges(of_hub.removed)),
        restarted=names(changes.restarted),
        updated=tuple(updated),
        unchanged=tuple(name for name in names(changes.unchanged) if name not in updated),
        problems=tuple(problems),
        warnings=(*loaded.warnings, *warnings),
    )


def problems_of(exc: Exception) -> list[Problem]:
    """What an operator is told of a failed reload. A bug is logged with its traceback."""
    found: list[Problem] = []
    for part in leaves(exc) if isinstance(exc, BaseExceptionGroup) else [exc]:
        match part:
            case ConfigError():
                found += part.problems
            case EdgeError():
                found.append(Problem("", str(part)))
            case ImportError():
                text = f"a module cannot be loaded ({part}): the program file was replaced; restart mcp-edge"
                found.append(Problem("", text))
            case _:
                log.error("internal error in a reload", exc_info=part)
                found.append(Problem("", f"internal error: {type(part).__name__}, see the log"))
    return list(dict.fromkeys(found))
