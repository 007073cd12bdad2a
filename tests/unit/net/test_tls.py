"""TLS contexts: what they insist on, and what they say about files they cannot use."""

import ssl
from pathlib import Path

import pytest
import trustme

from edge.config.model import ServerTlsConfig
from edge.errors import EdgeError
from edge.net.tls import client_context, hub_context, server_context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, cert.pem and key.pem, which belong together, and other.key.pem, which does not."""
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    cert, other = ca.issue_cert("localhost"), ca.issue_cert("localhost")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    cert.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    cert.private_key_pem.write_to_path(folder / "key.pem")
    other.private_key_pem.write_to_path(folder / "other.key.pem")
    (folder / "text.pem").write_text("not a certificate")
    return folder


def test_a_server_speaks_tls_1_2_and_up_and_asks_for_no_certificate(files: Path) -> None:
    context = server_context(str(files / "cert.pem"), str(files / "key.pem"))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE


def test_a_server_with_a_client_ca_insists_on_a_certificate(files: Path) -> None:
    context = server_context(str(files / "cert.pem"), str(files / "key.pem"), str(files / "ca.pem"))
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_a_client_trusts_the_system_and_what_was_added(files: Path) -> None:
    plain, added = client_context(), client_context(str(files / "ca.pem"))
    assert plain is client_context()
    assert plain.verify_mode == added.verify_mode == ssl.CERT_REQUIRED
    assert plain.check_hostname
    assert added.check_hostname
    assert added.cert_store_stats()["x509_ca"] == plain.cert_store_stats()["x509_ca"] + 1
    assert added.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_client_may_be_told_not_to_verify() -> None:
    context = client_context(verify=False)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.parametrize(
    ("cert", "key", "client_ca", "words"),
    [
        ("missing.pem", "key.pem", "", ["missing.pem", "No such file"]),
        ("cert.pem", "missing.pem", "", ["key", "missing.pem", "No such file"]),
        ("cert.pem", "other.key.pem", "", ["other.key.pem", "does not belong"]),
        ("text.pem", "key.pem", "", ["text.pem", "PEM"]),
        ("cert.pem", "key.pem", "missing.pem", ["client CA", "missing.pem", "No such file"]),
        ("cert.pem", "key.pem", "text.pem", ["client CA", "text.pem", "PEM"]),
    ],
)
def test_an_unusable_file_is_named_with_the_reason(
    files: Path, cert: str, key: str, client_ca: str, words: list[str]
) -> None:
    with pytest.raises(EdgeError) as caught:
        server_context(str(files / cert), str(files / key), str(files / client_ca) if client_ca else None)
    for word in words:
        assert word in str(caught.value)


def test_an_encrypted_key_is_refused_and_not_asked_for(files: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((files / "key.pem").read_bytes(), None)
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(EdgeError, match="encrypted"):
        server_context(str(files / "cert.pem"), str(tmp_path / "key.pem"))


def test_an_unusable_ca_of_a_client_is_named(files: Path) -> None:
    with pytest.raises(EdgeError, match=r"CA .*text\.pem cannot be used: not in PEM form"):
        client_context(str(files / "text.pem"))


def test_a_client_may_have_a_certificate_of_its_own(files: Path) -> None:
    cert, key = str(files / "cert.pem"), str(files / "key.pem")
    assert client_context(cert=cert, key=key) is not client_context()
    (files / "both.pem").write_text((files / "cert.pem").read_text() + (files / "key.pem").read_text())
    client_context(cert=str(files / "both.pem"))


@pytest.mark.parametrize(
    ("cert", "key", "words"),
    [
        ("missing.pem", "", ["certificate", "missing.pem"]),
        ("cert.pem", "missing.pem", ["key", "missing.pem"]),
        ("cert.pem", "other.key.pem", ["cert.pem with key", "does not belong"]),
        ("cert.pem", "", ["cert.pem cannot be used"]),
    ],
)
def test_a_client_certificate_that_cannot_be_used_is_named(
    files: Path, cert: str, key: str, words: list[str]
) -> None:
    with pytest.raises(EdgeError) as caught:
        client_context(cert=str(files / cert), key=str(files / key) if key else None)
    for word in words:
        assert word in str(caught.value)


def test_who_asks_for_the_same_gets_the_same_until_a_file_changes(files: Path) -> None:
    ca = files / "ca-copy.pem"
    ca.write_bytes((files / "ca.pem").read_bytes())
    first = client_context(str(ca))
    assert client_context(str(ca)) is first
    assert client_context(str(ca), verify=False) is not first
    ca.write_bytes((files / "ca.pem").read_bytes() + b"\n")
    assert client_context(str(ca)) is not first


def test_the_hub_gives_its_clients_nothing_to_come_back_with(files: Path) -> None:
    context = hub_context(ServerTlsConfig(cert=str(files / "cert.pem"), key=str(files / "key.pem")))
    assert ticket_of(context, files) == (False, b"hello")
    assert ticket_of(server_context(str(files / "cert.pem"), str(files / "key.pem")), files) == (
        True,
        b"hello",
    )


def ticket_of(context: ssl.SSLContext, files: Path) -> tuple[bool, bytes]:
    """Whether a client has a session ticket once the server has said something, and what it has said."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = client_context(str(files / "ca.pem"))
    client = trusting.wrap_bio(to_client, to_server, server_hostname="localhost")
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    server.write(b"hello")
    said = client.read(5)
    assert client.session is not None
    return client.session.has_ticket, said


def test_an_authority_that_the_system_has_come_to_trust_counts_at_once(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ca = tmp_path / "store.pem", (files / "ca.pem").read_bytes()
    store.write_bytes(ca)
    (tmp_path / "certs").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(store))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "certs"))
    own = str(files / "cert.pem"), str(files / "key.pem")
    before = [client_context(), client_context(cert=own[0], key=own[1])]
    assert [context.cert_store_stats()["x509_ca"] for context in before] == [1, 1]
    (tmp_path / "new.pem").write_bytes(ca + trustme.CA().cert_pem.bytes())
    (tmp_path / "new.pem").rename(store)
    after = [client_context(), client_context(cert=own[0], key=own[1])]
    assert [context.cert_store_stats()["x509_ca"] for context in after] == [2, 2]
    assert client_context() is after[0]
