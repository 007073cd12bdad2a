"""The build is interrupted for real while it makes a root file system: nothing stays, neither files nor mounts.

debootstrap is a script here, which mounts and waits as the real one does. What is killed outright is the next
build's to clear away.
"""

import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import folders
import pytest
import roots
from say import Stop

from tests.support.peers import ROOT

NAME = "systemd-bookworm"
# The build with two more commands: a root in another folder than ours, and a program that takes a while to end.
BUILD = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "build")!r})
import commands, interruption, roots
folder = Path("peers").absolute() / {NAME!r}
commands.COMMANDS["root"] = lambda _: roots.make(folder, "bookworm", "http://127.0.0.1:9/")
commands.COMMANDS["view"] = lambda _: interruption.run_in_view([sys.executable, "-I", "-S", "-u", "slow.py"])
sys.exit(commands.main(sys.argv[1:], ""))
"""
SLOW = """\
import time
try:
    print("at work")
    time.sleep(300)
except KeyboardInterrupt:
    time.sleep(1)
    print("tidied up")
"""
DEBOOTSTRAP = """\
#!/bin/sh
for root; do case $root in */systemd-bookworm*) break;; esac; done
mkdir -p "$root/etc" "$root/proc"
{{ {mount}; }} && echo precious > "$root/proc/precious" && echo at work > "{here}/told" || echo failed > "{here}/told"
sleep 300
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "peers").mkdir()
    yield tmp_path
    # If a test has failed; or pytest would remove the files that are mounted.
    for mount in reversed(folders.mounts_in(tmp_path)):
        subprocess.run(["umount", "--lazy", mount], check=False)


def program(folder: Path, name: str, text: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    path = folder / "bin" / name
    path.write_text(text)
    path.chmod(0o755)


def building(place: Path, mount: str) -> subprocess.Popen[str]:
    """A build that has come to where debootstrap waits."""
    os.mkfifo(place / "told")
    told = os.open(place / "told", os.O_RDWR)
    program(place, "debootstrap", DEBOOTSTRAP.format(mount=mount, here=place))
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", BUILD, "root"],
        cwd=place,
        env={**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert select.select([told], [], [], 60)[0], "debootstrap was never started"
    assert os.read(told, 100) == b"at work\n"
    os.close(told)
    return process


def skip_unless_mounting_works(place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount, so what an interrupted build does about mounts is not shown")
    (place / "probe").mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "probe", place / "probe"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("root cannot mount here, so what an interrupted build does about mounts is not shown")
    subprocess.run(["umount", place / "probe"], check=True)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_build_says_so_and_leaves_nothing(place: Path, signum: signal.Signals) -> None:
    process = building(place, mount=":")
    process.send_signal(signum)
    said, _ = process.communicate(timeout=60)
    assert said.splitlines() == [
        "build: making a root file system of Debian bookworm ...",
        "build: interrupted",
    ]
    assert process.returncode == 130
    assert list((place / "peers").iterdir()) == []


@pytest.mark.parametrize("has_namespaces", [True, False])
def test_what_an_interrupted_build_had_mounted_is_gone(place: Path, has_namespaces: bool) -> None:
    skip_unless_mounting_works(place)
    if not has_namespaces:
        program(place, "unshare", "#!/bin/sh\necho not permitted >&2\nexit 1\n")
    process = building(
        place,
        mount='mount -t tmpfs it "$root/proc" && mkdir "$root/proc/a b" && mount -t tmpfs it "$root/proc/a b"',
    )
    if not has_namespaces:
        assert len(folders.mounts_in(place)) == 2
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said.splitlines()[-1]) == (130, "build: interrupted")
    assert folders.mounts_in(place) == []
    assert list((place / "peers").iterdir()) == []


def test_a_program_that_ctrl_c_reaches_as_well_may_tidy_up(place: Path) -> None:
    (place / "slow.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", BUILD, "view"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert said == "tidied up\nbuild: interrupted\n"
    assert process.returncode == 130


def test_what_is_mounted_from_elsewhere_keeps_its_files(place: Path) -> None:
    skip_unless_mounting_works(place)
    program(place, "unshare", "#!/bin/sh\nexit 1\n")
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    process = building(place, mount=f'mount --bind "{elsewhere}" "$root/proc"')
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert list((place / "peers").iterdir()) == []
    assert (elsewhere / "precious").read_text() == "precious\n"


def test_leftovers_of_a_killed_build_are_cleared_away_with_their_mounts(place: Path) -> None:
    skip_unless_mounting_works(place)
    left = place / "peers" / f"{NAME}.9728"
    (left / "proc").mkdir(parents=True)
    (place / "peers" / f"{NAME}.made-from").write_text("a file of the root that is whole")
    subprocess.run(["mount", "-t", "proc", "proc", left / "proc"], check=True)
    roots.clear_leftovers(place / "peers" / NAME)
    assert folders.mounts_in(place) == []
    assert [path.name for path in (place / "peers").iterdir()] == [f"{NAME}.made-from"]


def test_what_another_build_works_on_is_no_leftover(place: Path) -> None:
    with roots.half_made(place / "peers" / NAME) as theirs:
        roots.clear_leftovers(place / "peers" / NAME)
        assert theirs.is_dir()


def test_a_killed_build_takes_debootstrap_and_its_mounts_along(place: Path) -> None:
    skip_unless_mounting_works(place)
    if not roots.apart():
        pytest.skip("no namespaces of mounts and processes can be made here")
    process = building(place, mount='mount -t tmpfs it "$root/proc"')
    process.kill()
    process.communicate(timeout=60)
    assert folders.mounts_in(place) == []
    (left,) = (place / "peers").iterdir()
    claim = os.open(left, os.O_RDONLY)
    fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(claim)
    roots.clear_leftovers(place / "peers" / NAME)
    assert list((place / "peers").iterdir()) == []


def test_a_folder_with_something_mounted_that_stays_is_left_as_it_is(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_unless_mounting_works(place)
    mounted = place / "peers" / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "it", mounted], check=True)
    (mounted / "precious").touch()
    program(place, "umount", "#!/bin/sh\nexit 0\n")
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{place / 'bin'}:{path}")
    with pytest.raises(Stop, match="something is mounted"):
        folders.remove(place / "peers")
    monkeypatch.setenv("PATH", path)
    assert (mounted / "precious").exists()


def test_a_root_that_cannot_be_made_leaves_nothing_and_says_why(place: Path) -> None:
    program(place, "debootstrap", "#!/bin/sh\necho no such suite >&2\nexit 3\n")
    env = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", BUILD, "root"],
        cwd=place,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("build: no such suite\nfailed with status 3: ")
    assert list((place / "peers").iterdir()) == []
