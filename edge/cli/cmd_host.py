"""`mcp-edge host-server`: the built-in MCP server over stdin and stdout; what the built-in default starts."""

import argparse

from edge.cli import exit_codes
from edge.host.server import serve


def host_server(args: argparse.Namespace) -> int:
    serve()
    return exit_codes.OK
