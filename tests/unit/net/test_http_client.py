"""The pool and one exchange, over memory streams."""

import h11
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.errors import Gone, LocalProtocolError, Unavailable
from edge.net.http_client import (
    IDLE_S,
    LINGER_S,
    BadAnswer,
    Exchange,
    HttpPool,
    Origin,
    encode_head,
    idle_s,
    split_url,
)
from edge.net.wire import Wire
from tests.support.http_server_toys import Answer, Got, MemoryNet, ToyServer, head

FIELDS = {"Content-Type": "application/json"}


async def fetch(pool: HttpPool, body: bytes = b"{}", method: str = "POST") -> bytes:
    with pool.exchange() as exchange:
        await exchange.send(method, "/mcp", FIELDS, body)
        return await exchange.read_all(1000)


async def echo(got: Got, answer: Answer) -> None:
    await answer.send(200, {"Content-Type": "text/plain"}, got.body)


# -- requests


def test_a_url_gives_origin_and_target() -> None:
    assert split_url("http://[::1]:8080/mcp?a=b") == (Origin("::1", 8080, False, "[::1]:8080"), "/mcp?a=b")
    assert split_url("https://example.com") == (Origin("example.com", 443, True, "example.com"), "/")
    assert split_url("https://büro.example:443/x")[0].authority == "xn--bro-hoa.example"


@pytest.mark.parametrize("url", ["ftp://a/b", "/mcp", "http:///x"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="http"):
        split_url(url)


def test_our_request_head_is_one_that_h11_takes() -> None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(encode_head("POST", "/mcp", {"Host": "toy", "A": "b c"}, 2) + b"{}")
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target) == (b"POST", b"/mcp")
    assert dict(request.headers)[b"content-length"] == b"2"


@pytest.mark.parametrize("value", ["a\r\nB: c", "a\nb", "a\0", "€"])
def test_a_field_cannot_break_out_of_its_line(value: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode_head("GET", "/", {"A": value}, 0)


# -- the pool


async def test_requests_one_after_another_share_a_connection(nursery: trio.Nursery) -> None:
    net = MemoryNet(ToyServer(echo), nursery)
    pool = net.pool()
    assert [await fetch(pool, b"1"), await fetch(pool, b"2")] == [b"1", b"2"]
    assert net.server.connections == 1
    assert pool.open_count == 0


async def test_requests_at_once_have_a_connection_each_and_the_last_one_used_is_used_first(
    nursery: trio.Nursery,
) -> None:
    net = MemoryNet(ToyServer(echo), nursery)
    pool = net.pool()
    async with trio.open_nursery() as both:
        both.start_soon(fetch, pool)
        both.start_soon(fetch, pool)
    assert pool.idle_count == 2
    with pool.exchange() as exchange:
        await exchange.send("POST", "/mcp", FIELDS, b"{}")
        await exchange.read_all(10)
        first = exchange._connection
    with pool.exchange() as exchange:
        await exchange.send("POST", "/mcp", FIELDS, b"{}")
        assert exchange._connection is first


async def test_more_requests_than_allowed_are_refused_at_once(nursery: trio.Nursery) -> None:
    async def never(got: Got, answer: Answer) -> None:
        await trio.sleep_forever()

    pool = MemoryNet(ToyServer(never), nursery).pool(max_open=1)
    async with trio.open_nursery() as waiting:
        waiting.start_soon(fetch, pool)
        await wait_all_tasks_blocked()
        with pytest.raises(Unavailable, match="1 connections are in use"):
            await fetch(pool)
        waiting.cancel_scope.cancel()
    assert pool.open_count == 0


async def test_a_connection_that_shows_its_end_is_not_used_again(nursery: trio.Nursery) -> None:
    net = MemoryNet(ToyServer(echo), nursery)
    pool = net.pool()
    await fetch(pool)
    net.wires[0].looks_readable = True
    assert await fetch(pool, b"2") == b"2"
    assert net.wires[0].is_closed
    assert net.server.connections == 2


async def test_a_connection_idle_for_too_long_is_not_used_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    net = MemoryNet(ToyServer(echo), nursery)
    pool = net.pool()
    await fetch(pool)
    await trio.sleep(IDLE_S)
    await fetch(pool)
    assert net.server.connections == 2


async def test_idle_connections_are_closed_without_a_next_use(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    net = MemoryNet(ToyServer(echo), nursery)
    pool = net.pool()
    nursery.start_soon(pool.keep_tidy)
    await fetch(pool)
    await trio.sleep(IDLE_S + 2 * LINGER_S)
    assert net.wires[0].is_closed
    assert pool.idle_count == 0
    nursery.cancel_scope.cancel()


def test_the_server_may_say_how_long_a_connection_may_wait() -> None:
    assert [idle_s(x) for x in (None, "timeout=5, max=100", "timeout=9999", "timeout=x")] == [
        IDLE_S,
        4.0,
        60.0,
        IDLE_S,
    ]


class Scripted:
    """Drops the connection at the requests named; counts what was executed."""

    def __init__(self, *drops: int) -> None:
        self.drops = drops
        self.executed: list[bytes] = []

    async def __call__(self, got: Got, answer: Answer) -> None:
        self.executed.append(got.body)
        if len(self.executed) in self.drops:
            await answer.drop()
        else:
            await echo(got, answer)


async def test_a_post_lost_on_a_used_connection_is_not_repeated(nursery: trio.Nursery) -> None:
    script = Scripted(2)
    pool = MemoryNet(ToyServer(script), nursery).pool()
    await fetch(pool, b"1")
    with pytest.raises(Gone, match="before the answer came"):
        await fetch(pool, b"2")
    assert script.executed == [b"1", b"2"]
    assert await fetch(pool, b"3") == b"3"


async def test_a_get_lost_on_a_used_connection_is_repeated_once_on_a_new_one(nursery: trio.Nursery) -> None:
    net = MemoryNet(ToyServer(Scripted(2)), nursery)
    pool = net.pool()
    await fetch(pool, b"1")
    assert await fetch(pool, b"", "GET") == b""
    assert net.server.connections == 2


async def test_a_get_that_takes_something_away_is_never_repeated(nursery: trio.Nursery) -> None:
    script = Scripted(2)
    pool = MemoryNet(ToyServer(script), nursery).pool()
    await fetch(pool, b"1")
    with pool.exchange() as exchange:
        with pytest.raises(Gone, match="before the answer came"):
            await exchange.send("GET", "/poll", {}, may_repeat=False)
        assert exchange.is_written
    assert len(script.executed) == 2


async def test_a_get_lost_on_a_new_connection_is_not_repeated(nursery: trio.Nursery) -> None:
    net = MemoryNet(ToyServer(Scripted(1, 2)), nursery)
    with pytest.raises(Gone):
        await fetch(net.pool(), b"", "GET")
    assert net.server.connections == 1


class RefusingWire:
    """Takes `n_sends` requests and then nothing: as a socket does whose peer has sent a reset."""

    may_hide = False

    def __init__(self, n_sends: int = 0) -> None:
        self.n_sends = n_sends
        self.is_closed = False

    async def send(self, data: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        self.n_sends -= 1
        return self.n_sends >= 0

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return head(200, {"Content-Length": "2"}) + b"ok"

    def is_readable(self) -> bool:
        return False

    def close(self) -> None:
        self.is_closed = True


async def test_what_was_certainly_not_written_is_unavailable_on_a_new_connection() -> None:
    wires: list[RefusingWire] = []

    async def dial() -> Wire:
        wires.append(RefusingWire())
        return wires[-1]

    pool = HttpPool("toy", Origin("toy", 80, False, "toy"), dial, max_open=1)
    with pytest.raises(Unavailable, match="before the request was sent"):
        await fetch(pool)
    assert [wire.is_closed for wire in wires] == [True]


async def test_what_was_certainly_not_written_goes_out_on_a_new_connection() -> None:
    wires: list[RefusingWire] = []

    async def dial() -> Wire:
        wires.append(RefusingWire(n_sends=1))
        return wires[-1]

    pool = HttpPool("toy", Origin("toy", 80, False, "toy"), dial, max_open=1)
    assert [await fetch(pool), await fetch(pool)] == [b"ok", b"ok"]
    assert [wire.is_closed for wire in wires] == [True, False]


async def test_a_pool_that_closes_while_it_connects_leaves_nothing_open() -> None:
    wires: list[RefusingWire] = []

    async def dial() -> Wire:
        pool.close()
        wires.append(RefusingWire(n_sends=1))
        return wires[-1]

    pool = HttpPool("toy", Origin("toy", 80, False, "toy"), dial, max_open=1)
    with pytest.raises(Unavailable, match="closed"):
        await fetch(pool)
    assert [wire.is_closed for wire in wires] == [True]


class EarlyWire(RefusingWire):
    """Breaks while it is written to, with an answer already there."""

    async def send(self, data: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError


async def test_an_answer_given_before_the_request_was_read_is_read() -> None:
    async def dial() -> Wire:
        return EarlyWire()

    assert await fetch(HttpPool("toy", Origin("toy", 80, False, "toy"), dial, max_open=1)) == b"ok"


async def test_cancelling_a_request_closes_its_connection(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def never(got: Got, answer: Answer) -> None:
        await answer.wait_client_gone()

    net = MemoryNet(ToyServer(never), nursery)
    with trio.move_on_after(1) as scope:
        await fetch(net.pool())
    assert scope.cancelled_caught
    assert net.wires[0].is_closed
    await wait_all_tasks_blocked()
    assert net.server.open_connections == 0


async def test_a_body_over_the_limit_is_refused_and_its_connection_closed(nursery: trio.Nursery) -> None:
    async def big(got: Got, answer: Answer) -> None:
        if got.body == b"chunked":
            await answer.start_events()
            await answer.chunk(b"x" * 2000)
        else:
            await answer.raw(head(200, {"Content-Length": "2000"}))

    net = MemoryNet(ToyServer(big), nursery)
    pool = net.pool()
    for body in (b"length", b"chunked"):
        with pytest.raises(BadAnswer, match="limit of 1000 bytes"):
            await fetch(pool, body)
    assert [wire.is_closed for wire in net.wires] == [True, True]


async def test_garbage_is_a_bad_answer(nursery: trio.Nursery) -> None:
    async def garbage(got: Got, answer: Answer) -> None:
        await answer.raw(b"\x16\x03\x01 no HTTP\r\n\r\n")

    with pytest.raises(BadAnswer, match="not an HTTP answer"):
        await fetch(MemoryNet(ToyServer(garbage), nursery).pool())


async def test_an_answer_cut_short_is_gone(nursery: trio.Nursery) -> None:
    async def cut(got: Got, answer: Answer) -> None:
        await answer.raw(head(200, {"Content-Length": "5"}) + b"hel")
        await answer.drop()

    with pytest.raises(Gone, match="before the answer did"):
        await fetch(MemoryNet(ToyServer(cut), nursery).pool())


async def read_first_event(pool: HttpPool) -> None:
    with pool.exchange() as exchange:
        await exchange.send("POST", "/mcp", FIELDS, b"{}")
        assert await exchange.read() == b"data: 1\n\n"
        exchange.leave()


async def test_a_stream_left_before_its_end_gives_its_connection_back_when_it_ends(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def events(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.chunk(b"data: 1\n\n")
        await trio.sleep(0.01)
        await answer.end()

    net = MemoryNet(ToyServer(events), nursery)
    pool = net.pool()
    await read_first_event(pool)
    await trio.sleep(0.1)
    net.wires[0].looks_readable = True
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as beside:

        async def looks_read() -> None:
            net.wires[0].looks_readable = False

        beside.start_soon(looks_read)
        await read_first_event(pool)
    assert net.server.connections == 1


async def test_a_stream_that_never_ends_is_closed_soon_and_later_ones_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def events(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.chunk(b"data: 1\n\n")
        await answer.wait_client_gone()

    net = MemoryNet(ToyServer(events), nursery)
    pool = net.pool()
    nursery.start_soon(pool.keep_tidy)
    await read_first_event(pool)
    closed = [[wire.is_closed for wire in net.wires]]
    await trio.sleep(2 * LINGER_S)
    closed.append([wire.is_closed for wire in net.wires])
    await read_first_event(pool)
    closed.append([wire.is_closed for wire in net.wires])
    assert closed == [[False], [True], [True, True]]
    nursery.cancel_scope.cancel()


async def test_closing_the_pool_ends_what_is_under_way(nursery: trio.Nursery) -> None:
    async def never(got: Got, answer: Answer) -> None:
        await trio.sleep_forever()

    pool = MemoryNet(ToyServer(never), nursery).pool()
    outcome: list[str] = []

    async def caller() -> None:
        try:
            await fetch(pool)
        except Gone:
            outcome.append("gone")

    nursery.start_soon(caller)
    await wait_all_tasks_blocked()
    pool.close()
    await wait_all_tasks_blocked()
    assert outcome == ["gone"]
    with pytest.raises(Unavailable, match="closed"):
        await fetch(pool)
    nursery.cancel_scope.cancel()


async def test_a_wait_can_be_interrupted_without_losing_the_answer(nursery: trio.Nursery) -> None:
    may_answer = trio.Event()

    async def slow(got: Got, answer: Answer) -> None:
        await may_answer.wait()
        await echo(got, answer)

    turns: list[int] = []
    exchange: Exchange

    async def between() -> None:
        turns.append(len(turns))

    async def meddle() -> None:
        for _ in range(2):
            await wait_all_tasks_blocked()
            exchange.interrupt()
        await wait_all_tasks_blocked()
        may_answer.set()

    pool = MemoryNet(ToyServer(slow), nursery).pool()
    with pool.exchange(between) as exchange:
        nursery.start_soon(meddle)
        await exchange.send("POST", "/mcp", FIELDS, b"{}")
        assert await exchange.read_all(10) == b"{}"
    assert len(turns) == 3
