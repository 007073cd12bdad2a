"""An SDK client answers what a server asks while it works: from the box itself, and through hub, link and edge."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.appliance import Appliance, running
from tests.support.faulty_neighbour import Client
from tests.support.links import DIALECTS, site, toy_server, until_edge
from tests.support.peers import python_of, requires

pytestmark = requires("pyz", "mcp1")

SDK_CLIENT = Path(__file__).with_name("clients") / "asked.py"
QUESTIONS: dict[str, dict[str, object]] = {
    "sampling/createMessage": {
        "messages": [{"role": "user", "content": {"type": "text", "text": "How warm is it?"}}],
        "maxTokens": 50,
    },
    "elicitation/create": {
        "message": "Which valve?",
        "requestedSchema": {"type": "object", "properties": {"valve": {"type": "string"}}},
    },
    "roots/list": {},
}


def ask_sdk(appliance: Appliance, url: str, tool: str) -> None:
    """All three questions, each of which reached the client and whose answer reached the server."""
    calls = [[tool, {"method": method, "params": params}] for method, params in QUESTIONS.items()]
    command: list[str | Path] = [python_of("mcp1"), SDK_CLIENT, url, json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{appliance.said()}"
    seen = json.loads(done.stdout)
    assert seen["asked"] == {
        "sampling/createMessage": "How warm is it?",
        "elicitation/create": "Which valve?",
        "roots/list": "",
    }
    answers = [json.loads(text) for text in seen["answered"]]
    assert {answer["id"] for answer in answers} == {"my-question"}
    answered = {method: answer["result"] for method, answer in zip(QUESTIONS, answers, strict=True)}
    assert answered["sampling/createMessage"]["content"]["text"] == "warm"
    assert answered["elicitation/create"] == {"action": "accept", "content": {"valve": "V7"}}
    assert answered["roots/list"]["roots"] == [{"uri": "file:///plant", "name": "plant"}]


def test_a_stdio_server_asks_the_client_that_called_it() -> None:
    with running(toy_server()) as appliance:
        ask_sdk(appliance, appliance.endpoint, "toy__ask")
        alone = appliance.endpoint.removesuffix("/mcp") + "/servers/toy/mcp"
        ask_sdk(appliance, alone, "ask")


def test_a_client_that_declares_nothing_is_not_asked() -> None:
    with running(toy_server()) as appliance:
        client = Client(appliance, appliance.endpoint)
        told = json.loads(client.text("toy__ask", method="roots/list"))
        assert told["error"]["code"] == -32601


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_server_behind_a_link_asks_the_client_of_the_hub(dialect: str) -> None:
    with site() as place, place.hub("box") as hub, place.edge("box", hub, dialect):
        until_edge(hub, "box")
        ask_sdk(hub, hub.endpoint, "box__toy__ask")
