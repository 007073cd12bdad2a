"""The manual's pages taken apart: tables, indented blocks, words in backticks; and the program's own words."""

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from edge.cli.cmd_help import read_topics
from edge.config.model import (
    AdminConfig,
    BackoffConfig,
    GatewayConfig,
    HttpServerConfig,
    HubConfig,
    HubEdge,
    HubJwt,
    HubWebhook,
    LogConfig,
    ServerLimits,
    StdioLimits,
    StdioServerConfig,
    UplinkConfig,
)

EDGE = Path(__file__).resolve().parents[2] / "edge"
PAGES = read_topics()
TABLES: Mapping[str, tuple[Any, ...]] = {
    "gateway": (GatewayConfig,),
    "admin": (AdminConfig,),
    "log": (LogConfig,),
    "servers.NAME": (StdioServerConfig, HttpServerConfig),
    "uplinks.NAME": (UplinkConfig,),
    "hub": (HubConfig,),
    "hub.edges.NAME": (HubEdge,),
    "hub.jwt": (HubJwt,),
    "hub.webhook": (HubWebhook,),
    "limits": (StdioLimits, ServerLimits),
    "restart": (BackoffConfig,),
    "reconnect": (BackoffConfig,),
}
LOG_LEVELS = {
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}
NEWS_ONLY = "warning, debug"  # a warning when it is news
LEVELS_BY_CASE = {
    "link down": NEWS_ONLY,
    "webhook failed": NEWS_ONLY,
    "edge refused": NEWS_ONLY,
    "edge gone before it was ready": "any",
    "edge disconnected": "any",
    "remark on a link": "any",
}


def default_of_parameter(function: Any, name: str) -> Any:
    return function.__kwdefaults__[name]


def rows(page: str, heading: str = "") -> list[list[str]]:
    """Cells of all table rows below headings that begin with `heading`, without the tables' own heads."""
    found: list[list[str]] = []
    inside = not heading
    lines = PAGES[page].splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("#"):
            inside = line.lstrip("# ").startswith(heading)
        is_head = following.startswith("|---") or line.startswith("|---")
        if inside and line.startswith("| ") and not is_head:
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line[1:-1])])
    return found


def section(page: str, heading: str) -> str:
    """The text between a `## heading` and the next one."""
    return PAGES[page].partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def blocks(page: str) -> list[str]:
    """Indented blocks, without their indent."""
    found: list[str] = []
    block: list[str] = []
    after_blank = True
    for line in [*PAGES[page].splitlines(), "end"]:
        if line.startswith("    ") and (block or after_blank):
            block.append(line[4:])
        elif block and line:
            found.append("\n".join(block))
            block = []
        elif block:
            block.append("")
        after_blank = not line
    return found


def quoted(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def command_lines(page: str) -> Iterator[list[str]]:
    """Words after `mcp-edge` of every command line; two blanks end one, what follows is a comment."""
    inline = re.sub(r"\s+", " ", PAGES[page])
    for line in [*"\n".join(blocks(page)).splitlines(), *quoted(inline)]:
        if line.startswith("mcp-edge "):
            yield shlex.split(re.split(r"\s{2,}", line)[0])[1:]


def python_command(page: str) -> list[str]:
    """The one command of a page that begins with `python3 -c`, indented as the page shows it, as words for a shell."""
    (found,) = re.findall(r"^    (python3 -c .*?[^\\])$", PAGES[page], re.MULTILINE | re.DOTALL)
    return shlex.split(found)


@cache
def trees() -> tuple[ast.Module, ...]:
    return tuple(ast.parse(path.read_text("utf-8")) for path in sorted(EDGE.rglob("*.py")))


@cache
def program_texts() -> frozenset[str]:
    """Every string in the program that is no docstring; of an f-string each part between its placeholders."""
    found: set[str] = set()
    for tree in trees():
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        }
    return frozenset(found)


def log_messages() -> dict[str, str]:
    """Every constant message that is logged above `debug`, and its level."""
    found: dict[str, str] = {}
    for tree in trees():
        for node in ast.walk(tree):
            if (text := logged_by_case(node)) is not None:
                found[text] = LEVELS_BY_CASE[text]
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LOG_LEVELS
                and isinstance(node.func.value, ast.Name | ast.Attribute)
                and ast.unparse(node.func.value) in ("log", "self._log", "server_log")
                and isinstance(node.args[0], ast.Constant)
            ):
                found[str(node.args[0].value)] = LOG_LEVELS[node.func.attr]
    return found


def logged_by_case(node: ast.AST) -> str | None:
    """The message of a call whose first argument decides on the level: `log.log`, or a hub's note of a refusal."""
    if not isinstance(node, ast.Call) or len(node.args) < 2 or not isinstance(node.args[1], ast.Constant):
        return None
    called = ast.unparse(node.func)
    is_one = called in ("log.log", "self.note", "self._refusals.note")
    return str(node.args[1].value) if is_one else None
