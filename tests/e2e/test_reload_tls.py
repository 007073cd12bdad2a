"""Who may connect is changed while clients are connected: whom a stricter rule lets go on, and whom it does not."""

import http.client
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from tests.support.appliance import Appliance, running
from tests.support.links import toy_server
from tests.support.peers import requires
from tests.support.reloads import reload, rewrite

pytestmark = requires("pyz")


class Files:
    """Certificates of one authority in a folder: the listener's, and a client's."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key, self.client_ca = (folder / name for name in ("cert.pem", "key.pem", "ca.pem"))
        self._authority = trustme.CA()
        self._authority.cert_pem.write_to_path(self.client_ca)
        self.renew()

    def renew(self) -> None:
        issued = self._authority.issue_cert("127.0.0.1")
        self.cert.write_bytes(issued.cert_chain_pems[0].bytes())
        self.key.write_bytes(issued.private_key_pem.bytes())

    def add_authority(self) -> None:
        trustme.CA().cert_pem.write_to_path(self.client_ca, append=True)

    def client(self, *, is_known: bool) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        if is_known:
            self._authority.issue_cert("client@example.org").configure_cert(context)
        return context


@contextmanager
def serving(files: Files, *, asks_clients: bool) -> Iterator[Appliance]:
    more = f', client_ca = "{files.client_ca}"' if asks_clients else ""
    tls = f'tls = {{ cert = "{files.cert}", key = "{files.key}"{more} }}'
    with running(f'{toy_server("a")}[gateway]\nlisten = "127.0.0.1:0"\n{tls}\n') as edge:
        yield edge


def connection(edge: Appliance, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    parts = urlsplit(edge.endpoint)
    assert parts.hostname is not None
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=30, context=context)


def goes_on(client: http.client.HTTPSConnection) -> bool:
    """Whether a request is answered over it, and is not the last one."""
    try:
        client.request("GET", "/mcp")
        answer = client.getresponse()
        answer.read()
    except http.client.RemoteDisconnected:  # it has waited for too long to ask
        return False
    return answer.getheader("Connection") != "close"


def asks_for_certificates(edge: Appliance, files: Files) -> None:
    key = f'key = "{files.key}"'
    rewrite(edge, (key, f'{key}, client_ca = "{files.client_ca}"'))


def knows_another_authority(edge: Appliance, files: Files) -> None:
    files.add_authority()


@pytest.mark.parametrize(
    ("asks_clients", "change"), [(False, asks_for_certificates), (True, knows_another_authority)]
)
def test_whoever_might_not_be_let_in_any_more_is_let_go_after_a_request(
    asks_clients: bool, change: Callable[[Appliance, Files], None], tmp_path: Path
) -> None:
    files = Files(tmp_path)
    with serving(files, asks_clients=asks_clients) as edge:
        with closing(connection(edge, files.client(is_known=asks_clients))) as client:
            assert goes_on(client)
            change(edge, files)
            assert reload(edge)[1]["updated"] == ["gateway"]
            assert not goes_on(client)
        with closing(connection(edge, files.client(is_known=True))) as friend:
            assert goes_on(friend)
        with closing(connection(edge, files.client(is_known=False))) as stranger, pytest.raises(OSError):
            goes_on(stranger)


def test_a_renewed_certificate_costs_nobody_a_connection(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with (
        serving(files, asks_clients=False) as edge,
        closing(connection(edge, files.client(is_known=False))) as client,
    ):
        assert goes_on(client)
        files.renew()
        assert reload(edge)[1]["updated"] == ["gateway"]
        assert goes_on(client)
