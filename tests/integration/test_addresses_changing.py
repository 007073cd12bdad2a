"""Addresses that another listener takes over while the config changes: nobody is refused, and all of it or nothing."""

import platform
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio

from edge.errors import EdgeError
from edge.net.addresses import Addresses, Lent, Shared
from edge.net.listen import ListeningSocket
from edge.net.overlap import side_by_side
from edge.net.socket_stream import SocketStream
from tests.support.ports import another_process_can_take, has_ipv6, split

LOOPBACK = "127.0.0.1:0"
ROUNDS = 40
KERNEL = tuple(int(word) for word in platform.release().split("-")[0].split(".")[:2])
IPV6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
PAIRS = [
    ("127.0.0.1", "0.0.0.0"),
    ("0.0.0.0", "127.0.0.1"),
    pytest.param("[::1]", "[::]", marks=IPV6),
    pytest.param("[::]", "[::1]", marks=IPV6),
]
ASKED = {"127.0.0.1": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::1]": "::1", "[::]": "::1"}


class Answering:
    """Listeners that answer each connection with their owner's name."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def add(self, lent: Sequence[Lent]) -> trio.CancelScope:
        """Accepts until that is cancelled; gives back then."""
        scope = trio.CancelScope()
        for one in lent:
            self._nursery.start_soon(self._accept, one, scope)
        return scope

    async def _accept(self, lent: Lent, scope: trio.CancelScope) -> None:
        try:
            with scope:
                while True:
                    stream, _ = await lent.accept()
                    await stream.send_all(lent.owner.encode())
                    await stream.aclose()
        finally:
            lent.close()


@asynccontextmanager
async def answering() -> AsyncIterator[Answering]:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            yield Answering(nursery)
            nursery.cancel_scope.cancel()


def close_all(lent: Sequence[Lent]) -> None:
    for one in lent:
        one.close()


async def who_answers(address: str) -> str:
    host, port = split(address)
    async with await trio.open_tcp_stream(host, port) as stream:
        return b"".join([chunk async for chunk in stream]).decode()


async def test_two_listeners_change_places_and_who_waits_is_answered() -> None:
    addresses = Addresses()
    gateway, admin = addresses.of("gateway"), addresses.of("admin")
    async with answering() as server:
        first, second = await gateway(LOOPBACK), await admin(LOOPBACK)
        one, other = first[0].address, second[0].address
        old = [server.add(first), server.add(second)]
        with addresses.changing({"gateway": [other], "admin": [one]}) as put_in_force:
            server.add(await admin(one))
            server.add(await gateway(other))
            await trio.testing.wait_all_tasks_blocked()
            assert [await who_answers(one), await who_answers(other)] == ["gateway", "admin"]
            for scope in old:
                scope.cancel()
            put_in_force()
        assert [await who_answers(one), await who_answers(other)] == ["admin", "gateway"]


async def test_a_change_that_comes_to_nothing_is_not_noticed() -> None:
    addresses = Addresses()
    gateway = addresses.of("gateway")
    async with answering() as server:
        first = await gateway(LOOPBACK)
        address = first[0].address
        server.add(first)
        wide = f"0.0.0.0:{split(address)[1]}"
        for owner, text in (("gateway", wide), ("admin", wide), ("admin", address), ("gateway", address)):
            with addresses.changing({owner: [text]}):
                new = server.add(await addresses.of(owner)(text))
                assert await who_answers(address) == "gateway"
            new.cancel()
            assert await who_answers(address) == "gateway"
        await trio.testing.wait_all_tasks_blocked()
        assert await who_answers(address) == "gateway"
        assert not another_process_can_take(address)


async def test_who_is_built_again_during_a_change_that_comes_to_nothing_accepts_after_it() -> None:
    addresses = Addresses()
    gateway = addresses.of("gateway")
    async with answering() as server:
        first = await gateway(LOOPBACK)
        address = first[0].address
        with addresses.changing({"gateway": [address]}):
            again = await gateway(address)
            close_all(first)
        server.add(again)
        assert await who_answers(address) == "gateway"


async def test_two_cannot_take_the_same_one_or_a_part_of_it() -> None:
    addresses = Addresses()
    kept = await addresses.of("gateway")(LOOPBACK)
    address = kept[0].address
    wide = f"0.0.0.0:{split(address)[1]}"
    with addresses.changing({"admin": [address], "gateway": [wide], "hub": [address]}):
        taken = await addresses.of("admin")(address)
        for owner, text in (("gateway", wide), ("hub", address)):
            with pytest.raises(EdgeError, match=f"our own admin listens on {address} as well"):
                await addresses.of(owner)(text)
    close_all([*kept, *taken])


@pytest.mark.parametrize(("before", "after"), PAIRS)
async def test_an_address_becomes_one_that_it_is_a_part_of_and_the_other_way_round(
    before: str, after: str
) -> None:
    addresses = Addresses()
    gateway = addresses.of("gateway")
    async with answering() as server:
        older = await gateway(f"{before}:0")
        port = split(older[0].address)[1]
        asked, texts = f"[{ASKED[before]}]:{port}", [f"{host}:{port}" for host in (before, after)]
        old = server.add(older)
        for owner in ("admin", "gateway"):  # to another one, and back
            texts.reverse()
            with addresses.changing({owner: texts[:1]}) as put_in_force:
                new = server.add(await addresses.of(owner)(texts[0]))
                await trio.testing.wait_all_tasks_blocked()
                assert await who_answers(asked) != owner
                waits = socket.create_connection((ASKED[before], port))  # nobody gets to accept it
                old.cancel()
                put_in_force()
            async with trio.SocketStream(trio.socket.from_stdlib_socket(waits)) as stream:
                assert await stream.receive_some() == owner.encode()
            old = new
            assert await who_answers(asked) == owner
            assert not any(another_process_can_take(text) for text in texts)


async def test_one_address_becomes_several_that_are_parts_of_it() -> None:
    addresses = Addresses()
    async with answering() as server:
        older = await addresses.of("gateway")("0.0.0.0:0")
        port = split(older[0].address)[1]
        narrow = [f"127.0.0.1:{port}", f"127.0.0.2:{port}"]
        waits = [socket.create_connection(split(text)) for text in narrow]  # nobody gets to accept them
        elsewhere = socket.create_connection(("127.0.0.3", port))
        with addresses.changing({"gateway": narrow[:1], "admin": narrow[1:]}) as put_in_force:
            first = await addresses.of("gateway")(narrow[0])
            second = await addresses.of("admin")(narrow[1])
            put_in_force()
        close_all(older)
        server.add(first)
        server.add(second)
        for sock, owner in zip(waits, ("gateway", "admin"), strict=True):
            async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
                assert await stream.receive_some() == owner.encode()
        async with trio.SocketStream(trio.socket.from_stdlib_socket(elsewhere)) as stream:
            assert await stream.receive_some() == b""
        assert [await who_answers(text) for text in narrow] == ["gateway", "admin"]
        assert not any(another_process_can_take(text) for text in narrow)


@IPV6
@pytest.mark.parametrize("before", [["127.0.0.1", "[::1]"], ["127.0.0.1"], ["127.0.0.1", "[::]"]])
@pytest.mark.parametrize("after", [["[::]", "0.0.0.0"], ["0.0.0.0", "[::]"]])
async def test_what_would_leave_a_gap_for_other_programs_is_only_done_by_a_restart(
    before: list[str], after: list[str]
) -> None:
    addresses = Addresses()
    gateway = addresses.of("gateway")
    older = [*await gateway(LOOPBACK)]
    port = split(older[0].address)[1]
    for host in before[1:]:
        older += await gateway(f"{host}:{port}")
    newer: list[Lent] = []

    async def open_all() -> None:
        for host in after:
            newer.extend(await gateway(f"{host}:{port}"))

    with addresses.changing({"gateway": [f"{host}:{port}" for host in after]}):
        with pytest.raises(EdgeError, match="only by a restart"):
            await open_all()
        close_all(newer)
    assert not another_process_can_take(f"127.0.0.1:{port}")
    close_all(older)


async def test_an_address_in_other_words_is_the_same_one() -> None:
    addresses = Addresses()
    gateway = addresses.of("gateway")
    async with answering() as server:
        older = await gateway(LOOPBACK)
        address = older[0].address
        old = server.add(older)
        with addresses.changing({"gateway": [address]}) as put_in_force:
            server.add(await gateway(address))
            old.cancel()
            put_in_force()
        assert await who_answers(address) == "gateway"


async def test_what_another_one_keeps_cannot_be_taken() -> None:
    addresses = Addresses()
    kept = await addresses.of("gateway")(LOOPBACK)
    port = split(kept[0].address)[1]
    for text in (kept[0].address, f"0.0.0.0:{port}"):
        words = f"cannot listen on {text}: our own gateway listens on"
        with (
            addresses.changing({"gateway": [LOOPBACK], "admin": [text]}),
            pytest.raises(EdgeError, match=words),
        ):
            await addresses.of("admin")(text)
    close_all(kept)


async def test_two_cannot_have_parts_of_one_port() -> None:
    addresses = Addresses()
    one = await addresses.of("gateway")(LOOPBACK)
    with pytest.raises(EdgeError, match=r"our own gateway listens on .* take another port"):
        await addresses.of("gateway")(f"0.0.0.0:{split(one[0].address)[1]}")
    close_all(one)


async def test_one_that_goes_on_for_a_while_gets_no_more_when_another_has_its_address() -> None:
    addresses = Addresses()
    async with answering() as server:
        older = await addresses.of("hub")(LOOPBACK)
        address = older[0].address
        server.add(older)  # and never cancelled: it drains
        with addresses.changing({"gateway": [address]}) as put_in_force:
            server.add(await addresses.of("gateway")(address))
            put_in_force()
        assert [await who_answers(address) for _ in range(5)] == ["gateway"] * 5
        wide = f"0.0.0.0:{split(address)[1]}"
        with addresses.changing({"admin": [wide]}) as put_in_force:
            server.add(await addresses.of("admin")(wide))
            put_in_force()
        assert [await who_answers(address) for _ in range(5)] == ["admin"] * 5


async def widened(addresses: Addresses) -> tuple[list[Lent], str, socket.socket]:
    """What is lent of 0.0.0.0:P, where a client waits that came to 127.0.0.1:P before, and nobody has accepted it."""
    older = await addresses.of("gateway")(LOOPBACK)
    wide = f"0.0.0.0:{split(older[0].address)[1]}"
    waits = socket.create_connection(split(older[0].address))
    with addresses.changing({"gateway": [wide]}) as put_in_force:
        lent = [*await addresses.of("gateway")(wide)]
        put_in_force()
    close_all(older)
    return lent, wide, waits


async def test_who_waits_through_two_changes_is_answered_by_the_last_one() -> None:
    addresses = Addresses()
    async with answering() as server:
        lent, wide, waits = await widened(addresses)
        narrow = f"127.0.0.1:{split(wide)[1]}"
        with addresses.changing({"admin": [narrow]}) as put_in_force:
            last = await addresses.of("admin")(narrow)
            put_in_force()
        close_all(lent)
        server.add(last)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(waits)) as stream:
            assert await stream.receive_some() == b"admin"


async def test_who_has_lost_an_address_takes_none_of_those_that_wait_there() -> None:
    addresses = Addresses()
    async with answering() as server:
        lent, wide, waits = await widened(addresses)
        with addresses.changing({"admin": [wide]}) as put_in_force:
            last = await addresses.of("admin")(wide)
            put_in_force()
        server.add(lent)  # it drains, and asks for the next one
        await trio.testing.wait_all_tasks_blocked()
        server.add(last)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(waits)) as stream:
            assert await stream.receive_some() == b"admin"


class LateClient(ListeningSocket):
    """One to which a client connects in the moment between being emptied and being closed."""

    client: socket.socket | None = None

    def accept_waiting(self) -> list[tuple[SocketStream, str]]:
        found = super().accept_waiting()
        self.client = socket.create_connection(self.sock.getsockname())
        return found


@pytest.mark.skipif(KERNEL < (5, 7), reason="before Linux 5.7 one that comes in that instant is lost")
async def test_who_connects_while_an_address_is_given_up_comes_to_the_one_that_takes_its_place() -> None:
    old = LateClient(socket.create_server(("127.0.0.1", 0)), "the older one")
    shared = Shared(old, "gateway", (), lambda: None)
    lent = shared.lend("gateway", "the older one", waits=False)
    with closing(socket.socket()) as wide:
        wide.settimeout(10)
        with side_by_side([old.sock, wide]):
            wide.bind(("0.0.0.0", old.sock.getsockname()[1]))
            wide.listen()
        assert shared.end() == []
        lent.close()
        accepted, _ = wide.accept()
        assert old.client is not None
        with closing(accepted), closing(old.client) as client:
            accepted.sendall(b"wide")
            assert client.recv(10) == b"wide"


async def test_unix_sockets_change_places_and_keep_their_files(tmp_path: Path) -> None:
    one, other = f"unix:{tmp_path}/one", f"unix:{tmp_path}/other"
    addresses = Addresses()
    gateway, control = addresses.of("gateway"), addresses.of("control")
    async with answering() as server:
        old = [server.add(await gateway(one)), server.add(await control(other))]
        with addresses.changing({"gateway": [other], "control": [one]}) as put_in_force:
            server.add(await gateway(other))
            server.add(await control(one))
            for scope in old:
                scope.cancel()
            put_in_force()
        found = []
        for text in (one, other):
            async with await trio.open_unix_socket(text.removeprefix("unix:")) as stream:
                found.append(b"".join([chunk async for chunk in stream]).decode())
    assert found == ["control", "gateway"]


async def test_a_part_of_what_systemd_listens_on_is_refused_with_what_to_do() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as ours:
        address = "{}:{}".format(*ours.getsockname())
        wide = f"0.0.0.0:{split(address)[1]}"
        addresses = Addresses([ours])
        lent = await addresses.of("gateway")(address)
        words = f"systemd listens on {address} for us; change ListenStream="
        with addresses.changing({"gateway": [wide]}), pytest.raises(EdgeError, match=words):
            await addresses.of("gateway")(wide)
        assert not another_process_can_take(address)
        close_all(lent)


class Caller(threading.Thread):
    """Connects to one address without pause."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._address = (host, port)
        self.is_over = threading.Event()
        self.answers: set[str] = set()
        self.failed: list[str] = []
        self.n_answered = 0

    def run(self) -> None:
        while not self.is_over.is_set():
            try:
                with socket.create_connection(self._address, timeout=30) as sock:
                    self.answers.add(sock.recv(100).decode())
                self.n_answered += 1
            except OSError as exc:
                self.failed.append(repr(exc))


@pytest.mark.parametrize(("before", "after"), [PAIRS[0], PAIRS[2]])
async def test_who_connects_all_the_time_is_never_refused(before: str, after: str) -> None:
    addresses = Addresses()
    async with answering() as server:
        older = await addresses.of("gateway")(f"{before}:0")
        port = split(older[0].address)[1]
        old = server.add(older)
        owners, texts = ["gateway", "admin"], [f"{host}:{port}" for host in (before, after)]
        caller = Caller(ASKED[before], port)
        caller.start()
        try:
            for n in range(ROUNDS):
                texts.reverse()
                owner, text = owners[n % 3 == 0], texts[0]
                seen = caller.n_answered
                while caller.n_answered < seen + 3:  # noqa: ASYNC110  the thread has no event for us
                    await trio.sleep(0.001)
                with addresses.changing({owner: [text]}) as put_in_force:
                    new = server.add(await addresses.of(owner)(text))
                    await trio.sleep(0.001)
                    old.cancel()
                    put_in_force()
                old = new
        finally:
            caller.is_over.set()
            await trio.to_thread.run_sync(caller.join)
        assert caller.failed == []
        assert caller.answers == {"gateway", "admin"}
