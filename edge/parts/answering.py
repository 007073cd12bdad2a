"""What faces share: how a session begins, and the life of one call from its request to the text of its response.

A face knows how requests come in and answers go out (HTTP exchanges, frames of a link); it keeps the table of
what is in flight for its clients, from which a call is cancelled by its id.
"""

import logging

import trio

from edge.errors import EdgeError, RpcError, TimedOut
from edge.metrics import Metrics
from edge.parts.gateway import Gateway
from edge.parts.relay import Call
from edge.parts.sessions import LiveSession, Sessions, TooManySessions
from edge.parts.views import View
from edge.printable import cut
from edge.proto.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, Id, Request, encode_error, encode_result
from edge.proto.mcp import fault_of, label_of, negotiate
from edge.proto.questions import declared_in

log = logging.getLogger("edge.call")


async def answer(call: Call, gateway: Gateway, metrics: Metrics) -> str | None:
    """The response's text; None if the call was cancelled by its client, who then expects none.

    Entering the call's own scope is done here; its place in the face's table is the face's to give back.
    """
    request, flight = call.request, call.flight
    started = trio.current_time()
    result = "error"
    with flight.scope:
        try:
            text = encode_result(request.id, await gateway.dispatch(call))
            result = "success"
        except EdgeError as exc:
            text = error_text(request.id, exc, call)
        except Exception as exc:  # a bug: whoever ends the request logs it, and then says which it was
            exc.add_note(" ".join(f"{name}={value}" for name, value in told_of(call).items()))
            raise
        finally:
            metrics.request(label_of(request.method), result, trio.current_time() - started)
    for note in call.regrets or ():
        await call.notify(note)
    if flight.scope.cancelled_caught:
        if flight.cancelled:
            return None
        if flight.cut_off is not None:
            return error_text(request.id, flight.cut_off, call)
        return error_text(request.id, TimedOut(flight.server or "gateway", flight.limit_s), call)
    return text


async def open_session(
    request: Request, view: View, gateway: Gateway, sessions: Sessions
) -> tuple[LiveSession, str]:
    """A session for `initialize`, and the result's text. Raises RpcError or TooManySessions."""
    params = request.params.value if request.params else {}
    requested = params.get("protocolVersion")
    if not isinstance(requested, str):
        raise RpcError(INVALID_PARAMS, "params.protocolVersion must be a string")
    view = await gateway.settled(view, must_be_fresh=False)
    if sessions.draining:
        raise TooManySessions("the gateway is shutting down")
    session = sessions.create(version=negotiate(requested), view=view.key, declared=declared_in(params))
    gateway.welcome(session)
    return session, view.introduction(session.state.version)


def taken_id_text(request_id: Id) -> str:
    """The answer to a request under an id that is in flight."""
    return encode_error(request_id, INVALID_REQUEST, "a request with this id is in flight already")


def told_of(call: Call) -> dict[str, str]:
    """Which call it is, for the log: not what it was called with."""
    method = label_of(call.request.method)
    told = {"method": method, "id": cut(call.request.id, 64), "server": call.flight.server or ""}
    params = call.request.params
    if params is not None and isinstance(params.value, dict) and method in ("tools/call", "prompts/get"):
        told["item"] = cut(str(params.value.get("name")), 128)
    return {name: value for name, value in told.items() if value}


def error_text(request_id: Id, exc: EdgeError, call: Call | None = None) -> str:
    """The response that a client gets for `exc`; `call` is for the log."""
    fault = fault_of(exc)
    if not isinstance(exc, RpcError):
        log.debug("call failed", extra={**({} if call is None else told_of(call)), "reason": str(exc)})
    return encode_error(request_id, fault.code, fault.message, fault.data)
