"""Addresses that change places in a reload, or grow and shrink: whoever connects all the time is never refused."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.appliance import running
from tests.support.links import toy_server
from tests.support.peers import requires
from tests.support.ports import has_ipv6
from tests.support.processes import eventually
from tests.support.reloads import reload, rewrite

pytestmark = requires("pyz")

PAUSE_S = 0.003  # the machine has others to serve, too
ENOUGH = 20  # connections between two reloads
GATEWAY, ADMIN = 404, 200  # what each says to GET /livez


class Caller(threading.Thread):
    """Asks over a new connection each time, hundreds of times a second."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._address = (host, port)
        self.is_over = threading.Event()
        self.answers: list[int] = []
        self.failed: list[str] = []

    def run(self) -> None:
        while not self.is_over.is_set():
            connection = http.client.HTTPConnection(*self._address, timeout=30)
            try:
                connection.request("GET", "/livez")
                self.answers.append(connection.getresponse().status)
            except (OSError, http.client.HTTPException) as exc:
                self.failed.append(repr(exc))
            finally:
                connection.close()
            time.sleep(PAUSE_S)

    def wait_for(self, status: int) -> None:
        """Until only that has been answered for a while."""
        seen = len(self.answers)
        eventually(lambda: self.answers[seen:][-ENOUGH:] == [status] * ENOUGH, lambda: str(self.answers[-9:]))


@contextmanager
def calling(*addresses: tuple[str, int]) -> Iterator[list[Caller]]:
    callers = [Caller(*address) for address in addresses]
    for caller in callers:
        caller.start()
    try:
        yield callers
    finally:
        for caller in callers:
            caller.is_over.set()
        for caller in callers:
            caller.join()


def port_of(url: str) -> int:
    return int(url.split("/")[2].rpartition(":")[2])


def test_gateway_and_admin_change_places() -> None:
    listen = '[gateway]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
    with running(toy_server("toy") + listen) as edge:
        ports = [port_of(edge.endpoint), port_of(edge.admin)]
        with calling(*(("127.0.0.1", port) for port in ports)) as callers:
            for n in range(2):
                gateway, admin = [ports, ports[::-1]][(n + 1) % 2]
                text = f'[gateway]\nlisten = "127.0.0.1:{gateway}"\n[admin]\nlisten = "127.0.0.1:{admin}"\n'
                edge.config.write_text(toy_server("toy") + text)
                assert reload(edge)[1]["restarted"] == ["admin", "gateway"]
                for port, caller in zip(ports, callers, strict=True):
                    caller.wait_for(GATEWAY if port == gateway else ADMIN)
        assert [caller.failed for caller in callers] == [[], []]


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("127.0.0.1", "0.0.0.0"),
        pytest.param("[::1]", "[::]", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")),
    ],
)
def test_an_address_grows_and_shrinks_and_comes_to_another_table(narrow: str, wide: str) -> None:
    def config(gateway: str, admin: str) -> str:
        return (
            f'{toy_server("toy")}[gateway]\nlisten = "{gateway}"\ninsecure_public = true\n'
            f'[admin]\nlisten = "{admin}"\n'
        )

    elsewhere = "127.0.0.1:0"
    with running(config(f"{narrow}:0", elsewhere)) as edge:
        port = port_of(edge.endpoint)
        few, all_ = f"{narrow}:{port}", f"{wide}:{port}"
        with calling((narrow.strip("[]"), port)) as (caller,):
            caller.wait_for(GATEWAY)
            for gateway, admin, status in (
                (all_, elsewhere, GATEWAY),
                (few, elsewhere, GATEWAY),
                (elsewhere, all_, ADMIN),
                (few, elsewhere, GATEWAY),
                (elsewhere, few, ADMIN),
                (all_, elsewhere, GATEWAY),
            ):
                edge.config.write_text(config(gateway, admin))
                assert reload(edge)[1]["result"] == "reloaded"
                caller.wait_for(status)
        assert caller.failed == []


def test_a_reload_that_is_refused_for_another_address_leaves_them_where_they_are() -> None:
    listen = '[gateway]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
    with running(toy_server("toy") + listen) as edge, running(toy_server("toy")) as other:
        gateway, admin, taken = (port_of(url) for url in (edge.endpoint, edge.admin, other.endpoint))
        addresses = f'["127.0.0.1:{admin}", "127.0.0.1:{taken}"]'
        swapped = f'[gateway]\nlisten = {addresses}\n[admin]\nlisten = "127.0.0.1:{gateway}"\n'
        with calling(("127.0.0.1", gateway), ("127.0.0.1", admin)) as callers:
            edge.config.write_text(toy_server("toy") + swapped)
            for _ in range(3):
                verdict = reload(edge)[1]
                assert verdict["result"] == "refused"
                assert f"cannot listen on 127.0.0.1:{taken}" in verdict["problems"][0]["text"]
            for caller in callers:
                seen = caller.answers[0]
                caller.wait_for(seen)
        assert [(set(caller.answers), caller.failed) for caller in callers] == [
            ({GATEWAY}, []),
            ({ADMIN}, []),
        ]
        rewrite(edge, (f', "127.0.0.1:{taken}"', ""))
        assert reload(edge)[1]["restarted"] == ["admin", "gateway"]
