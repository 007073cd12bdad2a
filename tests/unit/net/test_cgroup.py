"""When a cgroup is ours to divide up, told from texts of the kernel's and a folder that stands for its file system."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.net.cgroup import MAIN, Delegated, NotDelegated, Room, claim, mount_point, own_path

UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "25 23 0:21 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
    "26 23 0:22 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
)
ENV = {"INVOCATION_ID": "5f5f"}
SERVICE = "system.slice/mcp-edge.service"


def test_our_path_and_the_mount_are_read_as_the_kernel_writes_them() -> None:
    assert own_path("1:name=systemd:/x\n0::/system.slice/a.service\n") == "/system.slice/a.service"
    assert own_path("0::/\n") is None
    assert own_path("0::/../other\n") is None
    assert own_path("4:memory:/a\n") is None
    assert mount_point(UNIFIED) == Path("/sys/fs/cgroup")
    assert mount_point(HYBRID) == Path("/sys/fs/cgroup/unified")
    assert mount_point("30 23 0:26 /part /mnt rw - cgroup2 cgroup2 rw\n") is None
    assert mount_point("") is None


class Tree:
    """Our cgroup at `place`, in a hierarchy that is a plain folder; `marks` are systemd's, by folder and name."""

    def __init__(self, folder: Path, place: str, pids: str = "7\n") -> None:
        self.root = folder / "cgroup"
        self.own = self.root / place
        self.own.mkdir(parents=True)
        for path in (self.own, self.own.parent):
            (path / "cgroup.procs").write_text("")
            (path / "cgroup.subtree_control").write_text("")
        (self.own / "cgroup.procs").write_text(pids)
        self.proc = folder / "proc"
        self.proc.mkdir()
        (self.proc / "cgroup").write_text(f"0::/{place}\n")
        (self.proc / "mountinfo").write_text(f"30 23 0:26 / {self.root} rw - cgroup2 cgroup2 rw\n")
        self.marks: dict[tuple[Path, str], str] = {}

    def claim(self, env: dict[str, str] = ENV, ours: frozenset[int] = frozenset({7})) -> Delegated:
        return claim(env, ours, proc=self.proc, mark=lambda path, name: self.marks.get((path, name), ""))


def in_a_leaf(tree: Tree) -> None:
    """The kernel has these files in every cgroup."""
    (tree.own / MAIN).mkdir()
    (tree.own / MAIN / "cgroup.procs").write_text("")


def test_a_delegated_service_is_divided_up_and_we_move_into_a_leaf(tmp_path: Path) -> None:
    tree = Tree(tmp_path, SERVICE)
    tree.marks = {(tree.own, "delegate"): "1", (tree.own, "invocation_id"): "5f5f"}
    in_a_leaf(tree)
    assert tree.claim().path == tree.own
    assert (tree.own / MAIN / "cgroup.procs").read_text() == "7"


def test_in_a_subgroup_of_a_delegated_service_we_stay_where_we_are(tmp_path: Path) -> None:
    tree = Tree(tmp_path, f"{SERVICE}/supervised")
    tree.marks = {(tree.own.parent, "delegate"): "1"}
    assert tree.claim().path == tree.own.parent
    assert not (tree.own.parent / MAIN).exists()


def no_evidence(tree: Tree) -> None:
    tree.marks = {}


def another_invocation(tree: Tree) -> None:
    tree.marks[tree.own, "invocation_id"] = "other"


def company(tree: Tree) -> None:
    (tree.own / "cgroup.procs").write_text("7\n8\n")


def root(tree: Tree) -> None:
    (tree.proc / "cgroup").write_text("0::/\n")


def only_the_root_above(tree: Tree) -> None:
    own = tree.root / "alone"
    own.mkdir()
    (tree.proc / "cgroup").write_text("0::/alone\n")
    tree.marks = {(tree.root, "delegate"): "1"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_evidence, "is not delegated"),
        (another_invocation, "is another unit's"),
        (company, "others are in"),
        (root, "no cgroups of version 2"),
        (only_the_root_above, "is not delegated"),
    ],
)
def test_without_evidence_nothing_is_touched(
    tmp_path: Path, change: Callable[[Tree], None], words: str
) -> None:
    tree = Tree(tmp_path, SERVICE)
    tree.marks = {(tree.own, "delegate"): "1"}
    in_a_leaf(tree)
    change(tree)
    with pytest.raises(NotDelegated, match=words):
        tree.claim()
    assert (tree.own / MAIN / "cgroup.procs").read_text() == ""
    with pytest.raises(NotDelegated, match="not started by systemd"):
        tree.claim(env={})


def room(folder: Path, **files: str) -> Room:
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return Room(folder, frozenset({"memory", "pids"}))


def test_a_limit_of_memory_leaves_no_way_out(tmp_path: Path) -> None:
    found = room(tmp_path, memory_max="max", pids_max="max")
    (tmp_path / "memory.swap.max").write_text("max")
    (tmp_path / "memory.oom.group").write_text("0")
    found.limit(1_048_576, 64)
    read = {each.name: each.read_text() for each in tmp_path.iterdir()}
    assert read["memory.max"].startswith("1048576")
    assert (read["memory.swap.max"][0], read["memory.oom.group"][0], read["pids.max"][:2]) == ("0", "1", "64")


def test_numbers_and_pressure_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    found = room(
        tmp_path,
        memory_current="4096\n",
        cpu_stat="usage_usec 2500000\nuser_usec 1\n",
        memory_events="low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 1\n",
        cpu_pressure="some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 total=9\n",
        pids_max="max\n",
    )
    assert found.number("memory.current") == 4096
    assert found.number("cpu.stat", "usage_usec") == 2_500_000
    assert found.number("memory.events", "oom_kill") == 2
    assert found.number("pids.max") is None
    assert found.number("not.there") is None
    assert found.stalled_s() == {"cpu": 1.5}
    assert found.is_out_of_memory()


def test_rooms_of_servers_of_one_name_do_not_collide(tmp_path: Path) -> None:
    first, second = (Delegated(tmp_path, frozenset(), tmp_path).room("git") for _ in range(2))
    assert first.path != second.path
    assert {path.name.rpartition(".")[0] for path in (first.path, second.path)} == {"server-git"}
    assert first.remove()
    assert os.listdir(tmp_path) == [second.path.name]
