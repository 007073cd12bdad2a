"""The one builder of httpx clients, for the paths where a millisecond does not matter.

Trust is the system's store, proxies are the environment's, redirects are not followed.
"""

import httpx

from edge.net.http_client import USER_AGENT
from edge.net.tls import client_context


def client(
    *,
    timeout_s: float,
    ca_file: str | None = None,
    verify: bool = True,
    use_proxy: bool = True,
    unix_path: str | None = None,
) -> httpx.Client:
    """A client to be used as a context; `timeout_s` is for each step of a request.

    `unix_path` connects to that socket, whatever host the URLs name. `use_proxy=False` is for addresses of this
    machine. Raises EdgeError if `ca_file` cannot be used.
    """
    context = client_context(ca_file, verify)
    transport = None
    if unix_path is not None:
        transport = httpx.HTTPTransport(uds=unix_path, verify=context)
    return httpx.Client(
        timeout=timeout_s,
        verify=context,
        transport=transport,
        trust_env=use_proxy and unix_path is None,
        headers={"User-Agent": USER_AGENT},
        follow_redirects=False,
    )
