"""`mcp-edge version`. The .pyz answers the plain form itself, before anything is imported."""

import argparse
import platform

from edge import __version__
from edge.cli import exit_codes
from edge.cli.output import say, say_json


def version(args: argparse.Namespace) -> int:
    if args.json:
        say_json({"name": "mcp-edge", "version": __version__, "python": platform.python_version()})
    else:
        say(f"mcp-edge {__version__}")
    return exit_codes.OK
