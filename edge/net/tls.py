"""TLS contexts: ours for clients that come in, and ours for servers we go to. Never below TLS 1.2."""

import os
import ssl
from contextlib import suppress
from functools import lru_cache

from edge.config.model import ServerTlsConfig
from edge.errors import ConfigError, EdgeError, Problem


def server_context(cert: str, key: str, client_ca: str | None = None) -> ssl.SSLContext:
    """For a listener: PEM files of the certificate chain and its key.

    With `client_ca`, only clients with a certificate signed by one of those are let in.
    Raises: EdgeError that names the file.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    harden(context)
    context.options |= ssl.OP_NO_RENEGOTIATION  # clients have no need of it
    load_own(context, cert, key)
    if client_ca:
        add_ca(context, client_ca, "client CA")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def endpoint_context(tls: ServerTlsConfig, place: str = "gateway.tls") -> ssl.SSLContext:
    """For a listener as it is configured. Raises: ConfigError with the place."""
    try:
        return server_context(tls.cert, tls.key, tls.client_ca)
    except EdgeError as exc:
        raise ConfigError([Problem(place, str(exc))]) from exc


def hub_context(tls: ServerTlsConfig) -> ssl.SSLContext:
    """For the hub's listener, whose connections live for weeks. Raises: ConfigError with the place.

    It gives no session tickets (RFC 8446, section 4.6.1): they are of use to who comes back often, and what goes into
    them takes 3 KiB of every link's memory here, and five times that at the edge.
    """
    context = endpoint_context(tls, "hub.tls")
    context.num_tickets = 0
    return context


def client_context(
    ca_file: str | None = None, verify: bool = True, cert: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """For a connection to a server: the system's trust store, and the CAs of `ca_file` beside it.

    `cert` is shown to servers that ask for one; its key is in `key`, or in the same file. It is shared by all who
    ask for the same, as the trust store alone takes near a megabyte; files that have changed make another one.
    Raises: EdgeError that names the file.
    """
    if verify and not ca_file and not cert:
        return system_context(system_stamps())
    files = (("CA", ca_file), ("certificate", cert), ("key", key))
    stamps = tuple(stamp_of(what, path) for what, path in files if path)
    return shared_context(ca_file, verify, cert, key, (*stamps, *(system_stamps() if verify else ())))


@lru_cache(maxsize=16)
def shared_context(
    ca_file: str | None, verify: bool, cert: str | None, key: str | None, stamps: tuple[object, ...]
) -> ssl.SSLContext:
    """See `client_context`; `stamps` tell files that have changed."""
    if verify:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # must go first: it insists on verification
        context.verify_mode = ssl.CERT_NONE
    harden(context)
    if ca_file:
        add_ca(context, ca_file, "CA")
    if cert:
        load_own(context, cert, key)
    return context


def stamp_of(what: str, path: str) -> tuple[int, int, int]:
    """Another one whenever the file has been written anew or replaced."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not a name that a file can have"
        raise EdgeError(f"TLS {what} {path} cannot be read: {reason}") from exc
    return found.st_ino, found.st_size, found.st_mtime_ns


def system_stamps() -> tuple[object, ...]:
    """Others when the system's trust store has changed: the file and the directory that OpenSSL reads."""
    paths = ssl.get_default_verify_paths()
    found: list[object] = []
    for path in (paths.cafile, paths.capath):
        with suppress(EdgeError):
            found.append(stamp_of("trust store", path) if path else None)
    return tuple(found)


@lru_cache(maxsize=1)
def system_context(stamps: tuple[object, ...]) -> ssl.SSLContext:
    """The system's trust store and nothing else; reading it takes milliseconds, so it is shared. `stamps` tell that
    it has changed."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    harden(context)
    return context


def harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])


def load_own(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    """The certificate that says who we are."""
    require_readable("certificate", cert)
    if key:
        require_readable("key", key)
    try:
        context.load_cert_chain(cert, key or None, password=no_password)
    except ssl.SSLError as exc:
        pair = f"{cert} with key {key}" if key else cert
        raise EdgeError(f"TLS certificate {pair} cannot be used: {why(exc)}") from exc


def add_ca(context: ssl.SSLContext, path: str, what: str) -> None:
    require_readable(what, path)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as exc:
        raise EdgeError(f"TLS {what} {path} cannot be used: {why(exc)}") from exc


def require_readable(what: str, path: str) -> None:
    """OpenSSL does not say which of its files it could not read."""
    try:
        with open(path, "rb"):
            pass
    except OSError as exc:
        raise EdgeError(f"TLS {what} {path} cannot be read: {exc.strerror}") from exc


def no_password() -> str:
    """OpenSSL would ask on the terminal."""
    raise EdgeError("the TLS key is encrypted; a key without a passphrase is needed")


def why(exc: ssl.SSLError) -> str:
    """A reason for an operator: OpenSSL's names are for those who read its source."""
    if exc.reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    if not exc.reason or exc.reason in ("NO_START_LINE", "NO_CERTIFICATE_OR_CRL_FOUND"):
        return "not in PEM form"
    return exc.reason.lower().replace("_", " ")
