"""Which peers the tests need that pytest's arguments name: by the folders they are in, everything if in doubt."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import peers
import roots
from places import ROOT

IN_MACHINES = ("node", *roots.SUITES, "linux.uml", "mkfs.ext4")
NEEDS = {
    "unit": (),
    "property": (),
    "integration": ("groff",),
    "e2e": tuple(name for name in peers.FOR_TESTS if name == "node" or name not in IN_MACHINES),
    "systemd": IN_MACHINES,
}  # by folder of tests/
ALONE = re.compile(  # options of pytest that have no value, or have it in the same word
    r"-[hlqsvx]+|-r\w+|-n\d+|--[\w-]+=.*|--(lf|ff|nf|sw|co|last-failed|failed-first|new-first|stepwise|collect-only"
    r"|exitfirst|quiet|verbose|showlocals|pdb|trace|runxfail|no-header|no-summary|setup-show|strict-markers)"
)
WITH_WORD = {"-k", "-m", "-p", "-r", "-n", "-W", "--maxfail", "--durations", "--tb", "--capture", "--color"}


def peers_for(args: Sequence[str], root: Path = ROOT) -> tuple[str, ...]:
    """In the order of `peers.FOR_TESTS`, which it is if the arguments name no folder, or one that is not known."""
    folders = set(folders_of(args, root))
    if not folders or not folders <= NEEDS.keys():
        return peers.FOR_TESTS
    return tuple(name for name in peers.FOR_TESTS if any(name in NEEDS[folder] for folder in folders))


def folders_of(args: Sequence[str], root: Path) -> Iterator[str]:
    """The folder of tests/ for each path, empty for any other path.

    A path right after an option that is not known may be the option's value (`--ignore tests/e2e`): no telling, so
    it counts as any other.
    """
    before = ""
    for word in args:
        if not word.startswith("-") and before not in WITH_WORD:
            path = (root / word.partition("::")[0]).resolve()
            if path.exists():
                is_doubtful = before.startswith("-") and not ALONE.fullmatch(before)
                yield "" if is_doubtful else folder_of(path, root.resolve() / "tests")
        before = word


def folder_of(path: Path, tests: Path) -> str:
    return path.relative_to(tests).parts[0] if path.is_relative_to(tests) and path != tests else ""
