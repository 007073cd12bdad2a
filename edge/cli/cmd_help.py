"""`mcp-edge help [TOPIC]`: the manual, which is shipped inside the package as `edge/help/*.md`."""

import argparse
import difflib
from importlib.resources import files

from edge.cli import exit_codes
from edge.cli.arguments import COMMANDS, build_parser
from edge.cli.output import harmless, say

# In the order a newcomer reads them; pages that are not named here follow by name.
ORDER = (
    "start", "config", "reload", "servers", "uplinks", "hub", "contextforge", "endpoint", "health", "metrics", "limits",
    "logs", "security", "systemd", "import", "doctor", "troubleshooting",
)  # fmt: skip


def read_topics() -> dict[str, str]:
    """Topic → page. Works in a zip archive, too."""
    pages = {
        entry.name.removesuffix(".md"): entry.read_text("utf-8")
        for entry in files("edge").joinpath("help").iterdir()
        if entry.name.endswith(".md")
    }
    return {
        name: pages[name] for name in sorted(pages, key=lambda n: (ORDER.index(n) if n in ORDER else 99, n))
    }


def list_of(topics: dict[str, str]) -> str:
    """Each topic with the title of its page."""
    width = max(map(len, topics))
    titles = {name: page.partition("\n")[0].removeprefix("# ") for name, page in topics.items()}
    return "\n".join(f"  {name:{width}}  {title}" for name, title in titles.items())


def show_help(args: argparse.Namespace) -> int:
    topics = read_topics()
    wanted: str | None = args.topic
    if wanted is None:
        say(build_parser().format_help().rstrip())
        say(f"\ntopics for `mcp-edge help TOPIC`:\n{list_of(topics)}")
    elif wanted in topics:
        say(topics[wanted].rstrip("\n"))
    elif wanted in COMMANDS:
        build_parser().parse_args([wanted, "--help"])  # prints, and exits
    else:
        near = difflib.get_close_matches(wanted, [*topics, *COMMANDS], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        say(f"mcp-edge: there is no topic {harmless(wanted)}{hint}\n{list_of(topics)}", err=True)
        return exit_codes.USAGE
    return exit_codes.OK
