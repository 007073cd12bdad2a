import json

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge.proto.jsonrpc import Notification, Request, Response
from edge.proto.jsontext import Raw
from edge.proto.peer import Answered, Asked, Peer, Stray, Told, TooManyOpen

MAX_OPEN = 5
numbers = st.integers(-1, 12)


class PeerMachine(RuleBasedStateMachine):
    """Against a model: a dictionary of what is open, and the set of what ever was."""

    def __init__(self) -> None:
        super().__init__()
        self.peer = Peer[int](max_open=MAX_OPEN)
        self.owners = 0
        self.open: dict[str, int] = {}
        self.with_progress: set[str] = set()
        self.initializing: set[str] = set()
        self.ever: set[str] = set()

    @rule(progress=st.booleans(), method=st.sampled_from(["initialize", "tools/call"]))
    def opens(self, progress: bool, method: str) -> None:
        self.owners += 1
        try:
            id_text, text = self.peer.open(self.owners, method, "{}", progress=progress)
        except TooManyOpen:
            assert len(self.open) == MAX_OPEN
            return
        assert len(self.open) < MAX_OPEN
        assert id_text not in self.ever
        message = json.loads(text)
        assert message["id"] == int(id_text)
        assert message["params"] == ({"_meta": {"progressToken": f"p{id_text}"}} if progress else {})
        self.ever.add(id_text)
        self.open[id_text] = self.owners
        if progress:
            self.with_progress.add(id_text)
        if method == "initialize":
            self.initializing.add(id_text)

    @rule(number=numbers)
    def is_answered(self, number: int) -> None:
        response = Response(str(number), Raw("{}", {}), None)
        found = self.peer.receive(response)
        owner = self.open.pop(str(number), None)
        if owner is None:
            assert isinstance(found, Stray)
            assert found.is_late == (str(number) in self.ever)
        else:
            assert found == Answered(owner, response)

    @rule(number=numbers)
    def hears_progress(self, number: int) -> None:
        token = f"p{number}"
        notification = Notification("notifications/progress", Raw("{…}", {"progressToken": token}))
        found = self.peer.receive(notification)
        if str(number) in self.open and str(number) in self.with_progress:
            assert found == Told(notification, self.open[str(number)])
        else:
            assert isinstance(found, Stray)
            assert found.is_late == (str(number) in self.ever)

    @rule(number=numbers)
    def cancels(self, number: int) -> None:
        text = self.peer.cancel(str(number), "enough")
        was_open = self.open.pop(str(number), None) is not None
        assert (text is not None) == (was_open and str(number) not in self.initializing)
        if text is not None:
            assert json.loads(text)["params"] == {"requestId": number, "reason": "enough"}

    @rule(number=numbers)
    def is_asked(self, number: int) -> None:
        request = Request(str(number), "ping", None)
        assert self.peer.receive(request) == Asked(request)

    @rule()
    def abandons(self) -> None:
        assert self.peer.abandon() == list(self.open.values())
        self.open.clear()

    @invariant()
    def counts_what_is_open(self) -> None:
        assert self.peer.open_count == len(self.open)


TestPeer = PeerMachine.TestCase
