"""The manual as man pages: mcp-edge(1) with all commands, mcp-edge.toml(5), and a page of section 7 for each topic."""

import gzip
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pyz
import roff
from places import PYZ, ROOT
from say import run_quietly

HELP = ROOT / "edge" / "help"
TOML = "mcp-edge.toml"
WHAT = "the MCP servers of a box behind one guarded endpoint"
DESCRIPTION = ".SH DESCRIPTION\n"
FILES = """
## Files

* `/etc/mcp-edge/config.toml`: the config. mcp-edge.toml(5)
* `/etc/mcp-edge/credentials/`: a credential a file. mcp-edge-systemd(7)
* `/var/lib/mcp-edge/`, `/var/cache/mcp-edge/`, `/var/log/mcp-edge/`, `/run/mcp-edge/`: of the service.
"""
# Run by the archive, so that it needs nothing but a Python: the help of each command, as 80 columns have it.
ASK_FOR_COMMANDS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from edge.cli.arguments import COMMANDS, build_parser
parsers = build_parser().commands
print(json.dumps({name: parsers[name].format_help() for name in COMMANDS}))
"""


def ask(code: str, *arguments: str) -> str:
    """What Python code prints that has the archive in its first argument."""
    env = {"COLUMNS": "80", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
    return run_quietly([sys.executable, "-I", "-S", "-c", code, PYZ, *arguments], env=env)


def all_pages() -> dict[str, bytes]:
    """Name of the file, compressed, to its content."""
    topics = {file.stem: file.read_text() for file in sorted(HELP.glob("*.md"))}
    pages = {"mcp-edge.1": command_page(topics, json.loads(ask(ASK_FOR_COMMANDS)))}
    for topic, text in topics.items():
        if topic != "start":
            name, section = (TOML, 5) if topic == "config" else (f"mcp-edge-{topic}", 7)
            body = DESCRIPTION + roff.converted(text) + see_also(topics, leave_out=topic)
            pages[f"{name}.{section}"] = roff.page(name, section, title(text), body, version=pyz.version())
    return {f"{name}.gz": gzip.compress(text.encode(), 9, mtime=0) for name, text in pages.items()}


def command_page(topics: Mapping[str, str], commands: Mapping[str, str]) -> str:
    synopsis = ".SH SYNOPSIS\n.B mcp\\-edge\nCOMMAND [OPTIONS]\n"
    parts = [synopsis, DESCRIPTION, roff.converted(topics["start"]), ".SH COMMANDS\n"]
    for name, text in commands.items():
        indented = "\n".join(f"    {line}".rstrip() for line in text.rstrip().splitlines())
        parts.append(roff.converted(f"# \n\n### mcp-edge {name}\n\n{indented}\n"))
    parts += [roff.converted(f"# \n{FILES}"), see_also(topics, leave_out="start")]
    return roff.page("mcp-edge", 1, WHAT, "".join(parts), version=pyz.version())


def title(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")


def see_also(topics: Mapping[str, str], *, leave_out: str) -> str:
    names = {"start": "mcp-edge(1)", "config": f"{TOML}(5)"}
    listed = [names.get(topic, f"mcp-edge-{topic}(7)") for topic in topics if topic != leave_out]
    refs = [re.sub(r"^(.*)\((\d)\)$", r".BR \1 (\2)", ref.replace("-", "\\-")) for ref in sorted(listed)]
    return ".SH SEE ALSO\n" + " ,\n".join(refs) + "\n"


def write(folder: Path) -> None:
    """The pages as files, uncompressed; for looking at them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in all_pages().items():
        (folder / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
