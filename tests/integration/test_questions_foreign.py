"""What a server asks, over the one dialect of others that has a way for it: mcp-reverse, against a scripted end."""

import json

import trio

from tests.support.asking_server import ASKABLE, AskingServer
from tests.support.gateway_rig import gateway
from tests.support.scripted_acceptors import SseAcceptor, listening
from tests.support.uplink_rig import eventually, uplink


async def test_a_question_is_posted_and_its_answer_comes_on_the_stream() -> None:
    with trio.fail_after(10):
        server, acceptor = AskingServer(), SseAcceptor()
        async with (
            gateway(server) as rig,
            listening(acceptor) as url,
            uplink(rig, f"{url}/mcp-reverse", dialect="mcp-reverse"),
        ):
            await acceptor.until_open()
            info = {"name": "hub", "version": "1"}
            await acceptor.ask(
                0, "initialize", protocolVersion="2025-11-25", capabilities=ASKABLE, clientInfo=info
            )
            await acceptor.answer(0)
            await acceptor.ask(1, "tools/call", name="echo", arguments={})
            await eventually(lambda: bool(server.calls))
            server.ask("7", "elicitation/create", '{"message":"?"}')
            asked = {
                "jsonrpc": "2.0",
                "id": "ask-1",
                "method": "elicitation/create",
                "params": {"message": "?"},
            }
            await eventually(lambda: asked in acceptor.posts)
            await acceptor.send({"jsonrpc": "2.0", "id": "ask-1", "result": {"action": "decline"}})
            await eventually(lambda: bool(server.heard))
            assert json.loads(server.heard[0]) == {"jsonrpc": "2.0", "id": 7, "result": {"action": "decline"}}
            server.finish()
            assert (await acceptor.answer(1))["result"] == {"content": []}
