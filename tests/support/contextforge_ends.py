"""Both ends of the ContextForge dialect as tests want them: made, and taken as far as READY."""

import json
from typing import Any

from edge.proto.dialect import LinkState, Opened, Received, Start
from edge.proto.dialects.contextforge.acceptor import ContextForgeAcceptor
from edge.proto.dialects.contextforge.connector import ContextForgeConnector


def connector(**changes: Any) -> ContextForgeConnector:
    arguments: dict[str, Any] = {
        "url_path": "",
        "query": {},
        "headers": {},
        "name": "plant-7",
        "session_id": "c0ffee",
    }
    return ContextForgeConnector(**{**arguments, **changes})


def ready_connector(status: str = "success", **changes: Any) -> ContextForgeConnector:
    made = connector(**changes)
    made.handle(Start(), now=0)
    made.handle(Opened(), now=0)
    made.handle(frame(type="register_ack", status=status), now=0)
    assert made.state is LinkState.READY
    return made


def acceptor(**changes: Any) -> ContextForgeAcceptor:
    arguments: dict[str, Any] = {"session": "5e55", "own": False}
    return ContextForgeAcceptor(**{**arguments, **changes})


def ready_acceptor(**changes: Any) -> ContextForgeAcceptor:
    made = acceptor(**changes)
    made.handle(Opened(), now=0)
    made.handle(frame(type="register", server={"name": "edge-7"}), now=0)
    assert made.state is LinkState.READY
    return made


def frame(**members: Any) -> Received:
    return Received(json.dumps(members))
