"""Why servers' commands would not start, as far as that can be seen without starting them.

A file system that does not answer holds up whoever looks at a command there for as long as it likes. So that neither
a start of ours nor a reload waits for it, each command is looked at in a thread of its own, which is left to its wait
after LOOK_S.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from edge.config.model import StdioServerConfig
from edge.config.rules import dotted
from edge.net.command import NotStarted, environment, find_program

LOOK_S = 1.0
MAX_HANGING = 4  # looks that hang; with so many, nothing else is looked at

may_look = threading.BoundedSemaphore(MAX_HANGING)


def start_problems(servers: Iterable[StdioServerConfig], env: Mapping[str, str]) -> dict[str, list[str]]:
    """By server: sentences with their places."""
    found: dict[str, list[str]] = {}
    for server in servers:
        place = dotted(("servers", server.name, "command"))
        if not may_look.acquire(blocking=False):
            found[server.name] = [f"{place}: not looked at, as {MAX_HANGING} looks at others still hang"]
            continue
        problems: list[str] = []
        thread = threading.Thread(target=partial(look, server, env, problems), daemon=True)
        thread.start()
        thread.join(LOOK_S)
        if thread.is_alive():
            found[server.name] = [
                f"{place}: no answer within {LOOK_S:g} s where it is; is a mount not answering?"
            ]
        else:
            found[server.name] = problems
    return found


def look(server: StdioServerConfig, env: Mapping[str, str], problems: list[str]) -> None:
    try:
        problems += problems_of(server, env)
    finally:
        may_look.release()


def problems_of(server: StdioServerConfig, env: Mapping[str, str]) -> Iterator[str]:
    """Why the command would not start, if it were started now."""
    place = dotted(("servers", server.name))
    program = server.command[0]
    if server.cwd is not None and not os.path.isdir(server.cwd):
        yield f"{place}.cwd: {server.cwd} does not exist or is not a directory"
    elif not is_home(program):
        search_path = environment(env, server.env).get("PATH", os.defpath)
        try:
            find_program(program, search_path, server.cwd)
        except NotStarted as exc:
            yield f"{place}.command: {exc}"


def is_home(word: str) -> bool:
    """What a shell would have made a home directory of."""
    return word == "~" or word.startswith("~/")
