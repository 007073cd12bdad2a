import json

import pytest

from edge.errors import BadMessage, LocalProtocolError
from edge.proto.jsonrpc import ErrorObject, Notification, Request, Response, decode
from edge.proto.jsontext import Raw
from edge.proto.peer import Answered, Asked, Peer, Stray, Told, TooManyOpen


def answer(id_text: str | None) -> Response:
    return Response(id_text, Raw("{}", {}), None)


def progress(token: str) -> Notification:
    found = decode(
        f'{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token}}}}}'
    )
    assert isinstance(found, Notification)
    return found


def is_late(found: object) -> bool:
    assert isinstance(found, Stray)
    return found.is_late


def test_ids_count_from_one_and_the_text_is_the_request() -> None:
    peer = Peer[str]()
    assert peer.open("a", "tools/list", None, progress=False) == (
        "1",
        '{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
    )
    assert peer.open("b", "tools/call", '{"n" : 1.0}', progress=False) == (
        "2",
        '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"n" : 1.0}}',
    )
    assert peer.open_count == 2


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        (None, '{"_meta":{"progressToken":"p1"}}'),
        ("{}", '{"_meta":{"progressToken":"p1"}}'),
        ('{"n" : 1.0}', '{"n" : 1.0,"_meta":{"progressToken":"p1"}}'),
        (
            '{"_meta":{"a":1, "progressToken" : 7} ,"n":1.0}',
            '{"_meta":{"a":1, "progressToken" : "p1"} ,"n":1.0}',
        ),
        ('{"_meta":{"a":1}}', '{"_meta":{"a":1,"progressToken":"p1"}}'),
    ],
)
def test_our_progress_token_takes_the_place_of_theirs(params: str | None, wanted: str) -> None:
    _, text = Peer[str]().open("a", "tools/call", params, progress=True)
    assert text == f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{wanted}}}'


def test_params_without_room_for_a_token_are_refused_and_open_nothing() -> None:
    peer = Peer[str]()
    for params in ('{"_meta":7}', '{"_meta":{"a":1,"a":2}}', "[]"):
        with pytest.raises(BadMessage):
            peer.open("a", "tools/call", params, progress=True)
    assert peer.open_count == 0
    assert peer.abandon() == []
    assert is_late(peer.receive(progress('"p1"'))) is False


def test_the_table_has_an_end() -> None:
    peer = Peer[str](max_open=1)
    peer.open("a", "x", None, progress=False)
    with pytest.raises(TooManyOpen) as caught:
        peer.open("b", "x", None, progress=False)
    assert caught.value.max_open == 1
    assert isinstance(caught.value, LocalProtocolError)
    peer.receive(answer("1"))
    assert peer.open("b", "x", None, progress=False)[0] == "2"


def test_an_answer_goes_to_its_owner_once() -> None:
    peer = Peer[str]()
    peer.open("a", "x", None, progress=False)
    peer.open("b", "x", None, progress=False)
    assert peer.receive(answer("2")) == Answered("b", answer("2"))
    assert peer.open_count == 1
    assert is_late(peer.receive(answer("2"))) is True
    refusal = Response("1", None, ErrorObject(-32601, "no", None))
    assert peer.receive(refusal) == Answered("a", refusal)


@pytest.mark.parametrize("id_text", ['"1"', "1.0", "2", "0", "-1", "9" * 5000, "²"])
def test_an_answer_with_another_id_text_is_a_stray_and_not_late(id_text: str) -> None:
    peer = Peer[str]()
    peer.open("a", "x", None, progress=False)
    assert is_late(peer.receive(answer(id_text))) is False
    assert peer.open_count == 1


def test_an_error_without_an_id_is_a_stray() -> None:
    found = Peer[str]().receive(Response(None, None, ErrorObject(-32700, "cannot read", None)))
    assert found == Stray("an error without an id: cannot read", is_late=False)


def test_what_a_stray_says_is_cut_and_has_the_sign_for_it() -> None:
    peer = Peer[str]()
    found = peer.receive(Response(None, None, ErrorObject(-32700, "x" * 5000, None)))
    assert found == Stray(f"an error without an id: {'x' * 200}…", is_late=False)
    found = peer.receive(answer("9" * 5000))
    assert found == Stray(f"an answer to request {'9' * 64}…, which is not open", is_late=False)
    found = peer.receive(progress(f'"{"p" * 5000}"'))
    assert found == Stray(f"progress for '{'p' * 64}…', which is not open", is_late=False)


def test_a_cancelled_requests_late_answer_and_progress_are_strays_without_noise() -> None:
    peer = Peer[str]()
    id_text, _ = peer.open("a", "tools/call", None, progress=True)
    text = peer.cancel(id_text, 'time\n"out"')
    assert text is not None
    assert json.loads(text) == {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": 1, "reason": 'time\n"out"'},
    }
    assert peer.cancel(id_text, "again") is None
    assert is_late(peer.receive(answer("1"))) is True
    assert is_late(peer.receive(progress('"p1"'))) is True
    assert peer.open_count == 0


def test_initialize_is_forgotten_but_not_cancelled_on_the_wire() -> None:
    peer = Peer[str]()
    id_text, _ = peer.open("a", "initialize", "{}", progress=False)
    assert peer.cancel(id_text, "too slow") is None
    assert peer.open_count == 0
    assert is_late(peer.receive(answer("1"))) is True


def test_an_answered_initialize_leaves_nothing_behind() -> None:
    peer = Peer[str]()
    peer.open("a", "initialize", "{}", progress=False)
    assert peer.receive(answer("1")) == Answered("a", answer("1"))
    assert peer.cancel("1", "late") is None


def test_progress_goes_to_the_owner_until_the_answer() -> None:
    peer = Peer[str]()
    peer.open("a", "x", None, progress=True)
    peer.open("b", "x", None, progress=True)
    assert peer.receive(progress('"p2"')) == Told(progress('"p2"'), "b")
    assert peer.receive(progress('"p1"')) == Told(progress('"p1"'), "a")
    peer.receive(answer("1"))
    assert is_late(peer.receive(progress('"p1"'))) is True
    assert peer.receive(progress('"p2"')) == Told(progress('"p2"'), "b")


@pytest.mark.parametrize("token", ['"p2"', '"p9"', '"2"', '"q1"', '""', "1", "null", "[]"])
def test_progress_for_a_token_that_is_not_ours_is_a_stray(token: str) -> None:
    peer = Peer[str]()
    peer.open("a", "x", None, progress=True)
    assert is_late(peer.receive(progress(token))) is False


def test_progress_without_params_is_a_stray() -> None:
    assert is_late(Peer[str]().receive(Notification("notifications/progress", None))) is False


def test_no_progress_is_known_for_a_request_that_did_not_ask_for_it() -> None:
    peer = Peer[str]()
    peer.open("a", "x", None, progress=False)
    assert isinstance(peer.receive(progress('"p1"')), Stray)


def test_other_notifications_and_requests_are_handed_on() -> None:
    peer = Peer[str]()
    told = Notification("notifications/message", Raw("{}", {}))
    asked = Request('"x"', "ping", None)
    assert peer.receive(told) == Told(told, None)
    assert peer.receive(asked) == Asked(asked)


def test_abandon_returns_who_still_waits_oldest_first() -> None:
    peer = Peer[str]()
    for owner in "abcd":
        peer.open(owner, "initialize" if owner == "a" else "x", None, progress=True)
    peer.receive(answer("2"))
    peer.cancel("3", "")
    assert peer.abandon() == ["a", "d"]
    assert peer.abandon() == []
    assert peer.open_count == 0
    assert is_late(peer.receive(answer("4"))) is True
    assert peer.open("e", "x", None, progress=False)[0] == "5"
