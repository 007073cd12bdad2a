"""`python3 build deb`: dist/mcp-edge_VERSION_all.deb, for Debian 12 and later and what is made from them.

The archive as /usr/bin/mcp-edge, the units, a commented config, the manual as man pages, a rotation of logs. Written
with the standard library alone, so it can be built anywhere; `packaging/deb` has the control file and the scripts.
"""

import gzip
import os
import re
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from pathlib import Path

import debfile
import manpages
import pyz
import sums
from debfile import File
from places import DIST, PACKAGING, PYZ, ROOT, SBOM, UNITS
from say import Stop, line

DOC = "usr/share/doc/mcp-edge"
SCRIPTS = ("postinst", "prerm", "postrm")
CONFIG = "etc/mcp-edge/config.toml"
LOGROTATE = "etc/logrotate.d/mcp-edge"
CREDENTIALS = "etc/mcp-edge/credentials"
MAINTAINER = "mcp-edge@localhost"  # a form that Debian's tools take; nobody reads mail for the project
LONG_AGO = 315532800  # 1980, as in the archive; SOURCE_DATE_EPOCH says otherwise
# Run by the archive. The name is left to the host: the file is the same on all of them.
ASK_FOR_CONFIG = """
import sys
sys.path.insert(0, sys.argv[1])
from edge.config.template import template
own = ("/usr/bin/mcp-edge", "host-server")
print(template(name="", host_command=own, git_command=("uvx", "mcp-server-git")), end="")
"""


def main(args: Sequence[str]) -> int:
    match args:
        case []:
            folder = DIST
        case ["--out", path]:
            folder = Path(path).absolute()
        case _:
            raise Stop("deb takes --out FOLDER, or nothing")
    pyz.make_current()
    target = make(folder)
    if folder == DIST:
        sums.write(DIST, PYZ.name, SBOM.name, target.name)
    return 0


def make(folder: Path, version: str = "") -> Path:
    """The package's file. `version` other than the program's own is for tests of upgrades."""
    version = version or pyz.version()
    when = int(os.environ.get("SOURCE_DATE_EPOCH") or LONG_AGO)
    files = content(version, when)
    target = folder / f"mcp-edge_{version}_all.deb"
    folder.mkdir(parents=True, exist_ok=True)
    half_done = target.with_name(f"{target.name}.{os.getpid()}")
    half_done.write_bytes(debfile.package(control(version, files), files, time=when))
    half_done.replace(target)
    n_files = sum(file.content is not None for file in files.values())  # the others are directories
    line(f"{target} has {target.stat().st_size / 1e6:.1f} MB in {n_files} files")
    return target


def content(version: str, when: int) -> dict[str, File]:
    files = {
        "usr/bin/mcp-edge": File(PYZ.read_bytes(), 0o755),
        CONFIG: File(manpages.ask(ASK_FOR_CONFIG).encode()),
        CREDENTIALS: File(None, 0o700),
        LOGROTATE: File((PACKAGING / "deb" / "logrotate").read_bytes()),
        f"{DOC}/copyright": File(copyright_text().encode()),
        f"{DOC}/changelog.gz": compressed(changelog(version, when).encode()),
        f"{DOC}/CHANGELOG.md.gz": compressed((ROOT / "CHANGELOG.md").read_bytes()),
        f"{DOC}/mcp-edge.cdx.json.gz": compressed(SBOM.read_bytes()),
    }
    for unit in ("mcp-edge.service", "mcp-edge.socket"):
        files[f"usr/lib/systemd/system/{unit}"] = File((UNITS / unit).read_bytes())
    for example in ("servers.conf", "notify-reload.conf"):
        files[f"{DOC}/examples/{example}"] = File((UNITS / example).read_bytes())
    for name, page in manpages.all_pages().items():
        files[f"usr/share/man/man{name.removesuffix('.gz')[-1]}/{name}"] = File(page)
    return files


def control(version: str, files: Mapping[str, File]) -> dict[str, File]:
    kib = sum(len(file.content or b"") // 1024 + 1 for file in files.values())
    text = (PACKAGING / "deb" / "control").read_text()
    values = {"VERSION": version, "INSTALLED_KIB": str(kib), "MAINTAINER": MAINTAINER}
    filled = re.sub(r"@([A-Z_]+)@", lambda name: values[name[1]], text)
    conffiles = "".join(f"/{path}\n" for path in sorted((CONFIG, LOGROTATE)))
    found = {
        "control": File(filled.encode()),
        "conffiles": File(conffiles.encode()),
        "md5sums": File(debfile.md5sums(files)),
    }
    return found | {name: File((PACKAGING / "deb" / name).read_bytes(), 0o755) for name in SCRIPTS}


def copyright_text() -> str:
    return (
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        "Upstream-Name: mcp-edge\n"
        "\n"
        "Files: *\n"
        "Copyright: 2026 The mcp-edge developers\n"
        "License: Apache-2.0\n"
        " On Debian systems the text of this license is in /usr/share/common-licenses/Apache-2.0.\n"
        "Comment:\n"
        " /usr/bin/mcp-edge is a zip archive that holds libraries, too. Their licenses are in it, each in the\n"
        f" library's .dist-info folder, and are listed in /{DOC}/mcp-edge.cdx.json.gz.\n"
    )


def changelog(version: str, when: int) -> str:
    """In the form that Debian's tools read; what changed is in the file that it names."""
    date = formatdate(when).replace("-0000", "+0000")  # UTC, whatever the time zone here
    return (
        f"mcp-edge ({version}) unstable; urgency=medium\n\n"
        f"  * See /{DOC}/CHANGELOG.md.gz.\n\n"
        f" -- The mcp-edge developers <{MAINTAINER}>  {date}\n"
    )


def compressed(text: bytes) -> File:
    return File(gzip.compress(text, 9, mtime=0))
