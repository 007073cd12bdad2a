"""Where this machine's apt has Debian from."""

from pathlib import Path

import roots
from roots import Source

STANZAS = """\
Types: deb deb-src
# a remark
URIs: http://one.example/debian
Suites: bookworm bookworm-updates
Components: main contrib

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://sources.example/debian
Suites: bookworm
Components: main
"""
LINES = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://two.example/debian trixie main non-free # a remark
deb-src http://two.example/debian trixie main
deb http://flat.example/ ./
"""


def test_both_forms_of_apts_files_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / "debian.sources").write_text(STANZAS)
    (folder / "more.list").write_text(LINES)
    (folder / "more.list.save").write_text("deb http://old.example/ bookworm main\n")
    assert list(roots.sources(tmp_path)) == [
        Source(
            "http://one.example/debian",
            frozenset({"bookworm", "bookworm-updates"}),
            frozenset({"main", "contrib"}),
        ),
        Source("http://two.example/debian", frozenset({"trixie"}), frozenset({"main", "non-free"})),
        Source("http://flat.example/", frozenset({"./"}), frozenset()),
    ]


def test_a_machine_without_apt_has_no_sources(tmp_path: Path) -> None:
    assert list(roots.sources(tmp_path)) == []
