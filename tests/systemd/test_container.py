"""What the Containerfile makes, as far as it goes without a container engine: its command in such a Debian."""

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.calling import call
from tests.support.containerfile import containerfile
from tests.support.peers import PYZ, requires
from tests.support.service import eventually
from tests.support.systemd_sandbox import Box, contained, why_not

pytestmark = requires("pyz")
FOUND = dict(containerfile())
UID = int(FOUND["USER"].split(":")[0])
SUITE = FOUND["FROM"].removeprefix("debian:").removesuffix("-slim")


@contextmanager
def container(tmp_path: Path) -> Iterator[tuple[Box, subprocess.Popen[bytes]]]:
    """The command as PID 1 and not as root, with the files and the environment that the Containerfile gives it."""
    if (reason := why_not(SUITE)) is not None:
        pytest.skip(reason)
    made = re.findall(
        r"install -d .* (/\S+ /\S+)$",
        "\n".join(rest for name, rest in containerfile() if name == "RUN"),
        re.M,
    )
    command = json.loads(FOUND["ENTRYPOINT"]) + json.loads(FOUND["CMD"])
    options = [f"--bind-ro={PYZ}:/usr/local/bin/mcp-edge", "--user=mcp", f"--chdir={FOUND['WORKDIR']}"]
    options += [f"--setenv={word}" for word in shlex.split(FOUND["ENV"])]
    # nspawn knows users by name only
    passwd = tmp_path / "passwd"
    passwd.write_text(
        f"root:x:0:0:root:/root:/bin/sh\nmcp:x:{UID}:{UID}::/var/lib/mcp-edge:/usr/sbin/nologin\n"
    )
    options += [f"--bind-ro={passwd}:/etc/passwd"]
    for place in made[0].split():
        folder = tmp_path / place.strip("/").replace("/", "-")
        folder.mkdir(mode=0o700)
        subprocess.run(["chown", f"{UID}:{UID}", folder], check=True)
        options.append(f"--bind={folder}:{place}")
    with contained(SUITE, *options, command=command) as (box, process):
        yield box, process


def test_the_packages_that_it_installs_are_all_that_it_needs(tmp_path: Path) -> None:
    with container(tmp_path) as (box, process):
        eventually(lambda: box.run("/usr/local/bin/mcp-edge", "health", check=False).returncode == 0)
        assert box.in_network(call)["isError"] is False
        uid = Path(f"/proc/{box.leader}/status").read_text().partition("Uid:\t")[2].split()[0]
        assert int(uid) == UID
        assert box.out("stat", "-c", "%u %a", "/run/mcp-edge") == f"{UID} 700"
        os.kill(box.leader, getattr(signal, FOUND["STOPSIGNAL"]))
        assert process.wait(30) == 0
