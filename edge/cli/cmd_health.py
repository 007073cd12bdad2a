"""`mcp-edge health`: asks the admin listener of the running process, prints its verdict and reasons.

Exit codes are 0 and 69, or with `--nagios` those of a Nagios check: 0 ok, 1 warning, 2 critical, 3 unknown.
"""

import argparse
import os
import re
import socket
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import httpx

from edge.cli import exit_codes
from edge.cli.arguments import UsageError
from edge.cli.configfile import find_config, is_loopback
from edge.cli.output import harmless, painted, say, say_json
from edge.config.address import parse_address
from edge.config.model import AdminConfig
from edge.errors import ConfigError, Problem
from edge.health import BAD_RELOADS
from edge.net.http_cold import client

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  bound there, asked here

NEEDED = {"ready", "status", "uptime_seconds"}  # members of a report of ours

ERRNO = re.compile(r"^\[Errno -?[0-9]+\] ")


class Place(NamedTuple):
    """Where to ask: a base URL, over a Unix socket if `unix_path` is set; `shown` is for the user."""

    url: str
    unix_path: str
    shown: str
    is_remote: bool = False  # only then may a proxy stand between


class Unclear(Exception):
    """It cannot be asked; the text says why and what to do."""


class Silent(Unclear):
    """Nobody answers where it should be: as far as can be told, it is down."""


class Outcome(NamedTuple):
    """What a check comes to: its word, its two exit codes, what is known, and numbers in Nagios' form."""

    word: str
    code: int
    nagios_word: str
    nagios_code: int
    text: str
    lines: tuple[str, ...] = ()
    figures: str = ""


def health(args: argparse.Namespace) -> int:
    report: dict[str, Any]
    try:
        place = place_of(args)
        lines, report = ask(place, args.timeout_s)
        outcome = judged(lines, report)
    except Unclear as exc:
        outcome = unknown(str(exc), is_down=isinstance(exc, Silent))
        report = {"ready": False, "status": "unknown", "error": str(exc)}
    except (ConfigError, UsageError) as exc:
        if not args.nagios:
            raise
        outcome = unknown(str(exc), is_down=False)
        report = {"ready": False, "status": "unknown", "error": str(exc)}
    if args.json:
        say_json(report)
    else:
        show(outcome, in_nagios_form=args.nagios, verbose=args.verbose)
    return outcome.nagios_code if args.nagios else outcome.code


def show(outcome: Outcome, *, in_nagios_form: bool, verbose: bool) -> None:
    """One line, and with `verbose` one for everything there is."""
    word, text, lines = outcome.word, outcome.text, outcome.lines
    if in_nagios_form:  # what follows a bar are numbers, in each line
        word = outcome.nagios_word
        text, *rest = (line.replace("|", "/") for line in (text, *lines))
        lines = tuple(rest)
        if outcome.figures:
            text = f"{text} | {outcome.figures}"
    colour = "green" if outcome.nagios_code == 0 else "yellow" if outcome.nagios_code == 1 else "red"
    say(f"{painted(word, colour, sys.stdout)} - {harmless(text)}")
    if verbose:
        for line in lines:
            say(f"  {harmless(line)}")


def unknown(text: str, *, is_down: bool) -> Outcome:
    """There was no answer, or nobody to be asked."""
    first, code = ("CRITICAL", 2) if is_down else ("UNKNOWN", 3)
    return Outcome("UNKNOWN", exit_codes.UNAVAILABLE, first, code, " ".join(text.split()))


def judged(lines: list[str], report: dict[str, Any]) -> Outcome:
    """What the answers of `/readyz?verbose` and `/health` come to."""
    name = report.get("name") or "mcp-edge"
    counts = {
        shelf: (sum(record["connected"] for record in report[shelf]), len(report[shelf]))
        for shelf in ("servers", "uplinks", "edges")
        if report.get(shelf)
    }
    figures = [f"{shelf}={ready};;;0;{total}" for shelf, (ready, total) in counts.items()]
    if isinstance(report.get("sessions"), int):
        figures.append(f"sessions={report['sessions']};;;0")
    figures.append(f"uptime={report['uptime_seconds']:.0f}s;;;0")
    rest, numbers = tuple(lines[1:]), " ".join(figures)
    config = report.get("config") or {}
    bad = BAD_RELOADS.get(config.get("last_reload_result") or "")
    if report["status"] == "ok":
        told = ", ".join(f"{ready} of {total} {shelf} ready" for shelf, (ready, total) in counts.items())
        told = (told or "ready") + (f"; the last reload was {bad.came_to}" if bad is not None else "")
        return Outcome("OK", exit_codes.OK, "OK", 0, f"{name}: {told}", rest, numbers)
    # Those that count come first, and an edge that is away or a refused config does not.
    wrong = [
        line for line in rest if line.startswith("[-] ") and not line.startswith(("[-] edge:", "[-] config "))
    ]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    text = f"{name}: {wrong[0].removeprefix('[-] ') if wrong else 'no reason is given'}{more}"
    if report["ready"]:
        return Outcome("DEGRADED", exit_codes.OK, "WARNING", 1, text, rest, numbers)
    return Outcome("NOT READY", exit_codes.UNAVAILABLE, "CRITICAL", 2, text, rest, numbers)


def ask(place: Place, timeout_s: float) -> tuple[list[str], dict[str, Any]]:
    """The lines of `/readyz?verbose`, and the report of `/health`. Raises: Unclear."""
    if place.unix_path:
        try_socket(place, timeout_s)
    try:
        with client(
            timeout_s=timeout_s, unix_path=place.unix_path or None, use_proxy=place.is_remote
        ) as http:
            readiness = http.get(f"{place.url}/readyz?verbose")
            answer = http.get(f"{place.url}/health")
            report = answer.json() if answer.status_code == 200 else None
    except httpx.TimeoutException:
        raise Silent(f"{place.shown} gave no answer in {timeout_s:g} s") from None
    except httpx.ConnectError as exc:
        raise nobody_at(place, exc) from None
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise Unclear(f"{place.shown} cannot be asked: {plain_words(exc)}") from None
    except ValueError:
        report = None
    if readiness.status_code not in (200, 503) or not isinstance(report, dict) or not report.keys() >= NEEDED:
        words = f"{place.shown} answers (status {readiness.status_code}), but not as an admin listener of mcp-edge"
        raise Unclear(words)
    return readiness.text.splitlines(), report


def try_socket(place: Place, timeout_s: float) -> None:
    """Says what is wrong with a Unix socket in the system's own words; httpx would only fail."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.connect(place.unix_path)
        except OSError as exc:
            raise nobody_at(place, exc) from None


def nobody_at(place: Place, exc: Exception) -> Silent:
    return Silent(
        f"nothing answers at {place.shown} ({plain_words(exc)}); is mcp-edge running, with this [admin] listen?"
    )


def plain_words(exc: Exception) -> str:
    """What went wrong, without the system's number for it."""
    words = ERRNO.sub("", str(exc))
    return words[:1].lower() + words[1:]


def place_of(args: argparse.Namespace) -> Place:
    """`--url`, or the admin listener of the config that `run` would find, or the default one.

    Raises: Unclear; ConfigError for a config that is no TOML; UsageError.
    """
    if args.url:
        return place_of_url(args.url)
    path = find_config(args, os.environ)
    listen = AdminConfig().listen if path is None else admin_listen(path)
    try:
        address = parse_address(listen)
    except ValueError as exc:
        raise ConfigError([Problem(f"{path}: admin.listen", str(exc))]) from None
    if address.unix_path:
        return Place("http://localhost", address.unix_path, listen)
    if address.port == 0:
        raise Unclear("admin.listen leaves the port open; say where it is with --url")
    host = EVERYWHERE.get(address.host, address.host)
    url = f"http://[{host}]:{address.port}" if ":" in host else f"http://{host}:{address.port}"
    return Place(url, "", url)


def place_of_url(url: str) -> Place:
    if url.startswith("unix:"):
        path = unquote(url.removeprefix("unix:").removeprefix("//"))
        return Place("http://localhost", path, url)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(
            "--url must be like http://127.0.0.1:9766 or unix:/path", "usage: mcp-edge health [--url URL]"
        )
    base = f"{parts.scheme}://{parts.netloc}"
    return Place(base, "", base, is_remote=not is_loopback(parts.hostname or ""))


def admin_listen(path: Path) -> str:
    """Only this one key is read: whoever asks for health need not be able to read the secrets."""
    try:
        with open(path, "rb") as file:
            admin = tomllib.load(file).get("admin", {})
    except OSError as exc:
        raise Unclear(
            f"{path} cannot be read ({exc.strerror}); say where the admin listener is with --url"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise Unclear(
            f"{path} is not TOML (mcp-edge validate says where); say where the admin listener is with --url"
        ) from None
    listen = admin.get("listen", AdminConfig().listen) if isinstance(admin, dict) else None
    if not isinstance(listen, str):
        raise ConfigError([Problem(f"{path}: admin.listen", "must be a string")])
    if admin.get("enabled") is False:
        raise Unclear(f"{path} has admin.enabled = false, so there is nobody to ask")
    return listen
