"""A certificate authority of the tests, and certificates of 127.0.0.1 that it has signed, as files in a folder."""

import ssl
from pathlib import Path

import trustme

from edge.config.common import ServerTlsConfig
from edge.net.socket_stream import SocketStream
from edge.net.tls import client_context, server_context
from edge.net.tls_stream import TlsStream


class Certificates:
    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self.ca_file = str(folder / "ca.pem")
        self._authority.cert_pem.write_to_path(self.ca_file)
        self.tls = self.issue("server")

    def issue(self, name: str) -> ServerTlsConfig:
        """A new one, in files of this name: what was there before is replaced."""
        cert = self._authority.issue_cert("127.0.0.1")
        tls = ServerTlsConfig(
            cert=str(self._folder / f"{name}.cert.pem"), key=str(self._folder / f"{name}.key.pem")
        )
        cert.cert_chain_pems[0].write_to_path(tls.cert)
        cert.private_key_pem.write_to_path(tls.key)
        return tls

    def server_side(self, stream: SocketStream) -> TlsStream:
        """Before its handshake."""
        return TlsStream(stream, server_context(self.tls.cert, self.tls.key), server_side=True)

    async def client_side(self, stream: SocketStream) -> TlsStream:
        """After it. Raises: trio.BrokenResourceError."""
        secure = TlsStream(stream, self.client_context(), server_hostname="127.0.0.1")
        await secure.do_handshake()
        return secure

    def client_context(self) -> ssl.SSLContext:
        return client_context(self.ca_file)
