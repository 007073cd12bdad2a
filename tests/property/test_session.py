"""Sessions and their replay ring against models that are obviously right."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from edge.errors import RpcError
from edge.proto.replay import ReplayRing
from edge.proto.session import LIST_KINDS, Session

MAX_EVENTS, MAX_BYTES, KEEP_S = 5, 20, 10.0
MAX_SUBSCRIPTIONS = 3


class RingMachine(RuleBasedStateMachine):
    """The model keeps everything for ever and works out what the ring may still have."""

    streams = Bundle("streams")
    finished = Bundle("finished")
    ids = Bundle("ids")

    @initialize()
    def start(self) -> None:
        self.now = 0.0
        self.ring = ReplayRing(max_events=MAX_EVENTS, max_bytes=MAX_BYTES, keep_s=KEEP_S)
        self.all: list[tuple[str, str, str, float]] = []  # stream, id, data, at
        self.kept = 0  # the last `kept` of them are in the ring
        self.done: set[str] = set()

    @rule(target=streams)
    def open_stream(self) -> str:
        stream = self.ring.open_stream()
        assert all(stream != other for other, *_ in self.all)
        return stream

    @rule(target=ids, stream=streams, data=st.text("ab€", max_size=9))
    def append(self, stream: str, data: str) -> str:
        event_id = self.ring.append(stream, data, now=self.now)
        assert all(event_id != known for _, known, _, _ in self.all)
        self.all.append((stream, event_id, data, self.now))
        self.kept += 1
        self.shrink()
        return event_id

    @rule(target=finished, stream=consumes(streams))
    def close(self, stream: str) -> str:
        self.ring.close_stream(stream, now=self.now)
        self.shrink()
        self.done.add(stream)
        return stream

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(event_id=ids)
    def come_back(self, event_id: str) -> None:
        replay = self.ring.after(event_id, now=self.now)
        self.shrink()
        place = next(at for at, (_, known, _, _) in enumerate(self.all) if known == event_id)
        stream = self.all[place][0]
        here = max(place + 1, len(self.all) - self.kept)
        missed = [event for event in self.all[here:] if event[0] == stream]
        if replay is None:
            # Only a finished stream of which nothing is left may be forgotten.
            assert stream in self.done
            assert not any(event[0] == stream for event in self.all[len(self.all) - self.kept :])
        else:
            assert replay.stream == stream
            assert [(event.id, event.data) for event in replay.events] == [event[1:3] for event in missed]
            assert replay.is_finished is (stream in self.done)

    @rule(text=st.text() | st.from_regex(r"[0-9]{1,3}-[0-9]{1,3}", fullmatch=True))
    def come_back_with_anything(self, text: str) -> None:
        self.ring.after(text, now=self.now)
        self.shrink()

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.ring) == self.kept <= MAX_EVENTS
        sizes = [len(data.encode()) for _, _, data, _ in self.all[len(self.all) - self.kept :]]
        assert self.ring.kept_bytes == sum(sizes) <= MAX_BYTES
        live = {stream for stream, *_ in self.all[len(self.all) - self.kept :]}
        assert {stream for stream in self.ring.streams if stream in self.done} <= live

    def shrink(self) -> None:
        def kept() -> list[tuple[str, str, str, float]]:
            return self.all[len(self.all) - self.kept :]

        while self.kept and (
            self.now - kept()[0][3] > KEEP_S
            or self.kept > MAX_EVENTS
            or sum(len(data.encode()) for _, _, data, _ in kept()) > MAX_BYTES
        ):
            self.kept -= 1


uris = st.sampled_from(["a:1", "a:1/b", "a:2", "a:3", "a:4"])


class SessionMachine(RuleBasedStateMachine):
    """A session against plain sets."""

    @initialize()
    def start(self) -> None:
        self.session = Session(
            id="s", version="2025-11-25", view=None, now=0.0, max_subscriptions=MAX_SUBSCRIPTIONS
        )
        self.subscribed: set[str] = set()
        self.dirty: set[str] = set()
        self.used = 0.0

    @rule(uri=uris)
    def subscribe(self, uri: str) -> None:
        try:
            assert self.session.subscribe(uri) is (uri not in self.subscribed)
        except RpcError:
            assert len(self.subscribed) == MAX_SUBSCRIPTIONS
            assert uri not in self.subscribed
        else:
            self.subscribed.add(uri)

    @rule(uri=uris)
    def unsubscribe(self, uri: str) -> None:
        assert self.session.unsubscribe(uri) is (uri in self.subscribed)
        self.subscribed.discard(uri)

    @rule(kind=st.sampled_from(LIST_KINDS))
    def list_changed(self, kind: str) -> None:
        self.session.list_changed(kind)
        self.dirty.add(kind)

    @rule()
    def listen(self) -> None:
        assert self.session.take_dirty() == sorted(self.dirty)
        self.dirty.clear()

    @rule(now=st.floats(0, 100))
    def touch(self, now: float) -> None:
        self.session.touch(now)
        self.used = max(self.used, now)

    @invariant()
    def state_is_the_models(self) -> None:
        assert self.session.subscriptions == self.subscribed
        assert self.session.dirty == self.dirty
        assert self.session.last_used == self.used


TestRing = RingMachine.TestCase
TestSession = SessionMachine.TestCase
