"""`mcp-edge reload`: has the running process load its config again, waits for the verdict, and prints it.

Asked over the control socket, so nothing but being root or the process's own user is needed. The running process
reads the file, not we: what it says is what holds.
"""

import argparse
import os
import socket
import sys
from typing import Any

import httpx

from edge.cli import exit_codes
from edge.cli.cmd_health import Unclear, plain_words
from edge.cli.configfile import find_config
from edge.cli.control_place import places_to_ask, running_beside
from edge.cli.output import harmless, painted, say, say_json, say_problems
from edge.errors import Problem
from edge.net.http_cold import client

CONFIG_RESULTS = {
    "refused": exit_codes.CONFIG,
    "rolled back": exit_codes.UNAVAILABLE,
    "not rolled back": exit_codes.UNAVAILABLE,
}
MOST_SHOWN = 8
CONNECT_S = 5.0
KINDS = ("added", "removed", "restarted", "updated")


def reload(args: argparse.Namespace) -> int:
    """0: done, or nothing to do. 78: refused, and nothing has changed. 69: taken back, or nobody answers."""
    try:
        status, verdict = ask(args)
    except Unclear as exc:
        if args.json:
            say_json({"result": "unknown", "error": str(exc)})
        else:
            say(f"mcp-edge: {harmless(str(exc))}", err=True)
        return exit_codes.UNAVAILABLE
    code = CONFIG_RESULTS.get(verdict["result"], exit_codes.OK)
    if status == 503:
        code = exit_codes.UNAVAILABLE
    if args.json:
        say_json(verdict)
        return code
    show(verdict)
    return code


def ask(args: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """HTTP status and verdict. Raises: Unclear."""
    places = [args.control] if args.control else places_to_ask(find_config(args, os.environ), os.environ)
    query: dict[str, str] = {}
    if args.plan:
        query["plan"] = "1"
    if args.confirm_s:
        query["confirm_s"] = f"{args.confirm_s:g}"
    failures: list[str] = []
    for place in places:
        if not place.startswith("unix:"):
            raise Unclear(f"{place} is no control socket: it is written unix:/path")
        path = place.removeprefix("unix:")
        if (reason := why_silent(path)) is not None:  # httpx would leave an open socket behind
            failures.append(f"{place} ({reason})")
            continue
        try:
            with client(timeout_s=args.timeout_s + args.confirm_s, unix_path=path) as http:
                answer = http.post("http://localhost/-/reload", params=query)
        except httpx.ConnectError as exc:
            failures.append(f"{place} ({plain_words(exc)})")
            continue
        except httpx.TimeoutException:
            raise Unclear(f"{place} has given no verdict yet; the log will have it") from None
        except httpx.HTTPError as exc:
            raise Unclear(f"{place} ended before the verdict: {plain_words(exc)}") from None
        return answer.status_code, verdict_in(answer, place)
    text = f"no running mcp-edge found; looked at {', '.join(failures)}"
    others = [] if args.control else running_beside(os.environ, places)
    if not others:
        raise Unclear(f"{text}; is it another --config?")
    shown = [f"{place} (process {pid})" for place, pid in others[:MOST_SHOWN]]
    if len(others) == 1:
        raise Unclear(f"{text}; this one could be asked: --control {shown[0]}")
    shown += [f"{len(others) - MOST_SHOWN} more"] if len(others) > MOST_SHOWN else []
    ways = "--control ADDRESS" if args.config else "-c FILE or --control ADDRESS"
    raise Unclear(f"{text}; these could be asked: {', '.join(shown)}: say which by {ways}")


def why_silent(path: str) -> str | None:
    """Why nobody can be asked at a Unix socket; None: somebody listens there."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.settimeout(CONNECT_S)
            sock.connect(path)
        except OSError as exc:
            return plain_words(exc)
    return None


def verdict_in(answer: httpx.Response, place: str) -> dict[str, Any]:
    try:
        verdict = answer.json()
    except ValueError:
        verdict = None
    if not isinstance(verdict, dict) or "result" not in verdict:
        raise Unclear(f"{place} answers (status {answer.status_code}), but not as mcp-edge's control socket")
    return verdict


def show(verdict: dict[str, Any]) -> None:
    """For a person: what happened, part by part; problems on stderr."""
    problems = [Problem(found.get("place", ""), found.get("text", "")) for found in verdict["problems"]]
    say_problems(problems)
    is_bad = verdict["result"] in CONFIG_RESULTS
    words = {
        "reloaded": "reloaded",
        "unchanged": "nothing has changed",
        "planned": "a reload would do this",
        "refused": "refused: nothing has changed",
        "rolled back": "taken back: the config before is in force",
        "not rolled back": "in force, and not good: the config before cannot be put back",
    }
    headline = words.get(verdict["result"], verdict["result"])
    if "config" in verdict:
        headline = f"{verdict['config']}: {headline}"
    stream = sys.stderr if is_bad else sys.stdout
    say(painted(harmless(headline), "red" if is_bad else "green", stream), err=is_bad)
    for kind in KINDS:
        if verdict.get(kind):
            say(harmless(f"  {kind:<10} {', '.join(verdict[kind])}"), err=is_bad)
    if verdict["result"] == "planned" and not any(verdict.get(kind) for kind in KINDS):
        say("  nothing")
    for warning in verdict.get("warnings", ()):
        say(f"{painted('warning', 'yellow', stream)}: {harmless(warning)}", err=is_bad)
