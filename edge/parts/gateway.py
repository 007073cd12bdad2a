"""`Gateway.dispatch`: one request of a client, answered from the catalogue or by the server that owns the name.

The gateway is a full server to clients and a full client to servers: it terminates both sides, and rewrites only
what it owns (`params.name`, `params.uri`, `ref`, the progress token). Everything else passes letter for letter.
It also hears what servers tell outside of any call, and passes it to the sessions concerned.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from edge.config.model import GatewayConfig
from edge.errors import Gone, RpcError, TimedOut, Unavailable, UpstreamError
from edge.net.http_client import BadAnswer
from edge.parts.rebuild import Rebuild
from edge.parts.relay import Call, Relay, is_wanted
from edge.parts.results import Links, with_published_uris
from edge.parts.server_http import AuthFailed
from edge.parts.sessions import LiveSession, news
from edge.parts.subscriptions import Subscriptions
from edge.parts.upstream import Upstream
from edge.parts.views import View, Views
from edge.proto.jsontext import Raw, dumps, members, replace_members, replace_name
from edge.proto.mcp import INVALID_PARAMS, LEVELS, METHOD_NOT_FOUND, RESOURCE_NOT_FOUND
from edge.proto.session import DEFAULT_LEVEL

log = logging.getLogger("edge.gateway")

START_WAIT_S = 3.0
"""How long a request waits for a server that is starting or starting again, before it is told so."""


class Gateway:
    """Routes calls. Its events (`UpstreamEvents`) come from the upstreams' tasks and are synchronous."""

    def __init__(
        self,
        views: Views,
        *,
        live: Callable[[], list[LiveSession]],
        call_timeout_s: float,
        page_size: int,
    ) -> None:
        self._views = views
        self._live = live
        self._call_timeout_s = call_timeout_s
        self._page_size = page_size
        self._upstreams: dict[str, Upstream] = {}
        self._subscriptions = Subscriptions()
        self._links = Links()
        self._rebuild = Rebuild(views)
        self._levels_stale = False
        self._levelled: set[str] = set()  # servers that a session has asked for a log level, ever
        self._problems: set[str] = set()
        self._methods: Mapping[str, Callable[[Call], Awaitable[str]]] = {
            "tools/call": self._call_tool,
            "tools/list": self._list,
            "prompts/list": self._list,
            "resources/list": self._list,
            "resources/templates/list": self._list,
            "prompts/get": self._get_prompt,
            "resources/read": self._read_resource,
            "completion/complete": self._complete,
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
            "logging/setLevel": self._set_level,
            "ping": self._ping,
        }

    def attach(self, upstreams: Mapping[str, Upstream]) -> None:
        """The servers in force, by name; replaced whole. Clients whose lists change are told.

        A name's new upstream learns what clients subscribed to at any earlier one.
        """
        is_smaller = not self._upstreams.keys() <= upstreams.keys()
        fresh = {name: new for name, new in upstreams.items() if self._upstreams.get(name) is not new}
        for server, uri in self._subscriptions.wanted(fresh):
            fresh[server].desire(uri)
        for new in fresh.values():
            new.usual_call_s = self._call_timeout_s
        self._upstreams = dict(upstreams)
        if is_smaller:
            self._rebuild.hurry()  # no view may lead to a server that is gone
        self.catalogues_changed()

    def configure(
        self,
        config: GatewayConfig,
        groups: Mapping[str, frozenset[str] | None],
        upstreams: Mapping[str, Upstream],
    ) -> None:
        """Go by this config, with these servers. No checkpoint: a request sees all of it, or nothing."""
        self._views.configure(config, groups)
        self._call_timeout_s = config.call_timeout_s
        self._page_size = config.page_size
        self._rebuild.hurry()
        for upstream in upstreams.values():
            upstream.usual_call_s = config.call_timeout_s
        self.attach(upstreams)

    def count_subscriptions(self) -> int:
        return len(self._subscriptions)

    def count_links(self) -> int:
        return len(self._links)

    def view(self, key: str | None) -> View | None:
        """The view of all (None), of one server, or of a group (parts/views.py)."""
        if self._rebuild.is_put_off:
            self.catalogues_changed()
        return self._views.get(key)

    async def settled(self, view: View, *, must_be_fresh: bool = True) -> View:
        """Wait, within bounds, for servers that are on their first start: a client that comes early sees all.

        The view as it is then; where a moment ago will do, it need not be fresh.
        """
        with trio.move_on_after(START_WAIT_S):
            for upstream in self._of(view):
                if not upstream.is_settled:
                    await upstream.wait_settled()
        if must_be_fresh:
            self._rebuild.hurry_for_a_request()
        return self.view(view.key) or view

    # -- requests

    async def dispatch(self, call: Call) -> str:
        """The result's JSON text. Raises EdgeError; cancelling it tells the server, if one has been asked."""
        method = self._methods.get(call.request.method)
        if method is not None:
            return await method(call)
        if call.view.server is not None:
            # One server alone: what we do not know may be an extension between it and its client.
            upstream = self._server(call.view.server)
            params = call.request.params
            return (await self._ask(call, upstream, params.text if params else None)).text
        raise RpcError(METHOD_NOT_FOUND, f"method {call.request.method!r} not found")

    async def _ping(self, call: Call) -> str:
        return "{}"

    async def _list(self, call: Call) -> str:
        view = await self.settled(call.view, must_be_fresh=False)
        cursor = _params(call).get("cursor")
        if cursor is not None and not isinstance(cursor, str):
            raise RpcError(INVALID_PARAMS, "params.cursor must be a string")
        return view.listed.page(call.request.method, cursor, self._page_size)

    async def _call_tool(self, call: Call) -> str:
        name = _string(call, "name")
        target = call.view.tool(name) or (await self.settled(call.view)).tool(name)
        if target is None:
            raise RpcError(INVALID_PARAMS, f"unknown tool {name!r}")
        upstream = self._server(target.server)
        params = _raw(call).text if target.name == name else replace_name(_raw(call).text, name, target.name)
        metrics = upstream.metrics
        started = trio.current_time()
        reason: str | None = "internal"
        try:
            result = await self._ask(call, upstream, params)
            reason = "upstream_returned_error" if result.value.get("isError") is True else None
            self._links.learn(target.server, result.value)
            return result.text
        except trio.Cancelled:
            reason = "upstream_timeout" if call.flight.is_late else "cancelled"
            raise
        except (UpstreamError, RpcError) as exc:
            reason = _reason(exc)
            raise
        finally:
            metrics.tool_call(target.name, trio.current_time() - started, reason)

    async def _get_prompt(self, call: Call) -> str:
        name = _string(call, "name")
        target = call.view.prompt(name) or (await self.settled(call.view)).prompt(name)
        if target is None:
            raise RpcError(INVALID_PARAMS, f"unknown prompt {name!r}")
        params = replace_name(_raw(call).text, name, target.name)
        return (await self._ask(call, self._server(target.server), params)).text

    async def _read_resource(self, call: Call) -> str:
        upstream, uri, published = await self._resource(call)
        params = replace_members(_raw(call).text, {"uri": dumps(uri)})
        result = await self._ask(call, upstream, params)
        return result.text if uri == published else with_published_uris(result, uri, published)

    async def _complete(self, call: Call) -> str:
        ref = _params(call).get("ref")
        if not isinstance(ref, dict):
            raise RpcError(INVALID_PARAMS, "params.ref must be an object")
        found = call.view.completion(ref) or (await self.settled(call.view)).completion(ref)
        if found is None:
            raise RpcError(INVALID_PARAMS, "params.ref names no prompt or resource template of this endpoint")
        target, ref_edits = found
        text = _raw(call).text
        span = members(text)["ref"]
        params = replace_members(text, {"ref": replace_members(text[span.start : span.end], ref_edits)})
        return (await self._ask(call, self._server(target.server), params)).text

    async def _subscribe(self, call: Call) -> str:
        session = _session(call)
        upstream, uri, published = await self._resource(call)
        is_new = session.state.subscribe(published)
        is_accepted = False
        try:
            await self._ready(upstream)
            await self._subscriptions.add(session, upstream, uri, published)
            is_accepted = True
            in_force = self._upstreams.get(upstream.name)
            if in_force is not None and in_force is not upstream:
                in_force.desire(uri)  # it took over before this was entered
        finally:
            if is_new and not is_accepted:
                session.state.unsubscribe(published)
        return "{}"

    async def _unsubscribe(self, call: Call) -> str:
        session = _session(call)
        published = _string(call, "uri")
        session.state.unsubscribe(published)
        # Looked up by what was subscribed: the resource itself may have gone from every list since.
        interests = self._subscriptions.known_as(session, published)
        if not interests:
            await self._resource(call)
        for server, uri in interests:
            await self._subscriptions.remove(session, (server, uri), self._upstreams.get(server))
        return "{}"

    async def _set_level(self, call: Call) -> str:
        _session(call).state.set_level(_string(call, "level"))
        with trio.move_on_after(START_WAIT_S):
            await self._apply_levels()
        return "{}"

    async def _ask(self, call: Call, upstream: Upstream, params: str | None) -> Raw:
        """Ask the server, under the call's deadline, with the client's own progress token put back into its news."""
        await self._ready(upstream)
        # The call's own scope is the timer: a scope less on the path that every call takes.
        call.flight.ask(upstream.name, upstream.call_limit_s())
        token = _progress_token(call.request.params)
        relay = Relay(call, token)
        result = await upstream.request(
            call.request.method, params, notify=relay, progress=token is not None, timeout_s=0
        )
        if not isinstance(result.value, dict):
            raise UpstreamError(upstream.name, f"answered {call.request.method!r} with what is no object")
        return result

    async def _ready(self, upstream: Upstream) -> None:
        if not upstream.is_ready:
            with trio.move_on_after(START_WAIT_S):
                await upstream.wait_ready()

    async def _resource(self, call: Call) -> tuple[Upstream, str, str]:
        """The server of `params.uri`, the URI as that server knows it, and as this client does."""
        published = _string(call, "uri")
        target = call.view.resource(published) or (await self.settled(call.view)).resource(published)
        if target is None:
            server = self._links.server_of(published)
            if server not in self._upstreams or not self._views.covers(call.view.key, server):
                raise RpcError(RESOURCE_NOT_FOUND, "resource not found", dumps({"uri": published}))
            return self._upstreams[server], published, published
        return self._server(target.server), target.name, published

    def _server(self, name: str) -> Upstream:
        """Raises: Unavailable, if it has gone since the call's view was made."""
        upstream = self._upstreams.get(name)
        if upstream is None:
            raise Unavailable(name, "it is no longer served here")
        return upstream

    def _of(self, view: View) -> list[Upstream]:
        if view.server is not None:
            return [upstream] if (upstream := self._upstreams.get(view.server)) is not None else []
        return [self._upstreams[name] for name in self._views.servers_of(view.key, self._upstreams)]

    # -- what servers tell outside of any call (UpstreamEvents)

    def catalog_changed(self, upstream: Upstream) -> None:
        self.catalogues_changed()

    def catalogues_changed(self) -> None:
        """Make the views anew, if it is time (parts/rebuild.py), and tell clients."""
        changed = self._rebuild.changed(self._upstreams)
        if changed is None:
            return
        fresh = set(self._views.problems) - self._problems
        if fresh:
            log.info("some names are published differently", extra={"count": len(fresh), "first": min(fresh)})
            for problem in sorted(fresh):
                log.debug("published differently", extra={"problem": problem})
        self._problems = set(self._views.problems)
        if not changed:
            return
        for session in self._live():
            for kind in changed.get(session.state.view, ()):
                session.list_changed(kind)

    def resource_updated(self, upstream: Upstream, params: Raw) -> None:
        uri = params.value.get("uri") if isinstance(params.value, dict) else None
        if not isinstance(uri, str):
            return
        for session, published in self._subscriptions.interested(upstream.name, uri):
            text = (
                params.text if published == uri else replace_members(params.text, {"uri": dumps(published)})
            )
            session.tell(news("notifications/resources/updated", text))

    def logged(self, upstream: Upstream, params: Raw) -> None:
        """To the sessions that have a call at this server; if there are none, to all that can see it."""
        covers = self._views.covers
        sessions = [session for session in self._live() if covers(session.state.view, upstream.name)]
        callers = [s for s in sessions if any(call.server == upstream.name for call in s.calls.values())]
        told = news("notifications/message", params.text)
        for session in callers or sessions:
            if is_wanted(session, params):
                session.tell(told)

    # -- sessions that end

    def welcome(self, session: LiveSession) -> None:
        """A session began. It hears what DEFAULT_LEVEL lets pass, also where another one asked for less."""
        self._levels_stale = self._levels_stale or bool(self._levelled)

    def forget(self, session: LiveSession) -> None:
        """A session ended. Servers are told later, by `tidy`: ending a session never waits for one."""
        self._subscriptions.drop(session)
        self._levels_stale = self._levels_stale or session.state.level is not None

    async def tidy(self) -> None:
        """Tell servers what no client wants any more; run now and then by the part that ends sessions."""
        if self._views.is_outdated or self._rebuild.is_put_off:
            self.catalogues_changed()
        async with trio.open_nursery() as nursery:
            for server in self._subscriptions.servers_to_tell():
                nursery.start_soon(self._unsubscribe_unwanted, server)
            if self._levels_stale:
                nursery.start_soon(self._apply_levels)

    async def _unsubscribe_unwanted(self, server: str) -> None:
        while (uri := self._subscriptions.pop_unwanted(server)) is not None:
            if server not in self._upstreams:
                continue
            try:
                await self._upstreams[server].unsubscribe(uri)
            except (UpstreamError, RpcError) as exc:
                log.debug("unsubscribe failed", extra={"server": server, "reason": str(exc)})

    async def _apply_levels(self) -> None:
        """Each server logs as much as the most curious of its sessions wants. One that hangs holds up no other."""
        self._levels_stale = False
        async with trio.open_nursery() as nursery:
            for upstream in self._upstreams.values():
                sessions = [s for s in self._live() if self._views.covers(s.state.view, upstream.name)]
                if upstream.name in self._levelled or any(s.state.level is not None for s in sessions):
                    self._levelled.add(upstream.name)
                    wanted = {session.state.level or DEFAULT_LEVEL for session in sessions} or {DEFAULT_LEVEL}
                    nursery.start_soon(self._apply_level, upstream, min(wanted, key=LEVELS.index))

    async def _apply_level(self, upstream: Upstream, level: str) -> None:
        try:
            await upstream.set_level(level)
        except (UpstreamError, RpcError) as exc:
            log.info("server refused the log level", extra={"server": upstream.name, "reason": str(exc)})


def _params(call: Call) -> dict[str, Any]:
    params = call.request.params
    return params.value if params is not None else {}


def _raw(call: Call) -> Raw:
    assert call.request.params is not None  # a member of it has been read
    return call.request.params


def _string(call: Call, member: str) -> str:
    value = _params(call).get(member)
    if not isinstance(value, str):
        raise RpcError(INVALID_PARAMS, f"params.{member} must be a string")
    return value


def _session(call: Call) -> LiveSession:
    if call.session is None:
        raise RpcError(METHOD_NOT_FOUND, f"{call.request.method} needs a session: send initialize first")
    return call.session


def _progress_token(params: Raw | None) -> str | None:
    """The JSON text of `_meta.progressToken`, so that 1, 1.0 and "1" stay apart."""
    if params is None or "_meta" not in params.value:
        return None
    meta = members(params.text)["_meta"]
    if not isinstance(meta.value, dict) or "progressToken" not in meta.value:
        return None
    text = params.text[meta.start : meta.end]
    token = members(text)["progressToken"]
    return text[token.start : token.end]


def _reason(exc: UpstreamError | RpcError) -> str:
    """The label of `tool_call_errors_total`, by type."""
    match exc:
        case AuthFailed():
            return "upstream_auth_failed"
        case BadAnswer():
            return "upstream_protocol_error"
        case Unavailable() | Gone():
            return "upstream_disconnected"
        case TimedOut():
            return "upstream_timeout"
        case _:
            return "upstream_protocol_error"
