"""A real CONNECT proxy on a loopback socket, which does what a test wants of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio


@dataclass
class ConnectProxy:
    """`authorization`: what it asks for, 407 without. `answer`: sent in place of any tunnel. `seen`: the heads."""

    port: int = 0
    authorization: str = ""
    answer: bytes = b""
    is_silent: bool = False
    seen: list[str] = field(default_factory=list)
    tunnels: int = 0

    async def serve(self, client: trio.SocketStream) -> None:
        async with client:
            head = b""
            while b"\r\n\r\n" not in head:
                data = await client.receive_some()
                if not data:
                    return
                head += data
            self.seen.append(head.decode())
            if self.is_silent:
                await trio.sleep_forever()
            if self.answer:
                await client.send_all(self.answer)
                return
            if self.authorization and f"Proxy-Authorization: {self.authorization}\r\n" not in self.seen[-1]:
                await client.send_all(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                    b'Proxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
                )
                return
            host, _, port = self.seen[-1].split(" ")[1].rpartition(":")
            async with await trio.open_tcp_stream(host.strip("[]"), int(port)) as server:
                self.tunnels += 1
                await client.send_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(carry, client, server, nursery.cancel_scope)
                    nursery.start_soon(carry, server, client, nursery.cancel_scope)


async def carry(source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some():
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()


@asynccontextmanager
async def connect_proxy(
    *, authorization: str = "", answer: bytes = b"", is_silent: bool = False
) -> AsyncIterator[ConnectProxy]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = ConnectProxy(
        listener.socket.getsockname()[1], authorization=authorization, answer=answer, is_silent=is_silent
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, [listener])
        yield proxy
        nursery.cancel_scope.cancel()
