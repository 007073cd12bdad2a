"""A Debian package as a file: an `ar` archive of two tar archives.

The same content gives the same bytes: everything belongs to root, has one time, and is sorted by name.
Source: deb(5), deb-control(5).
"""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class File(NamedTuple):
    """What a path of the package is; `content` is None for a directory that is there for its own sake."""

    content: bytes | None
    mode: int = 0o644


def package(control: Mapping[str, File], content: Mapping[str, File], *, time: int) -> bytes:
    """`control` has the files of the control archive; `content` paths without a leading slash. `time` in seconds."""
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": tarball(control, time=time),
        "data.tar.gz": tarball(content, time=time),
    }
    return b"!<arch>\n" + b"".join(ar_member(name, body, time) for name, body in members.items())


def ar_member(name: str, body: bytes, time: int) -> bytes:
    head = f"{name:<16}{time:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n"
    return head.encode() + body + b"\n" * (len(body) % 2)


def tarball(files: Mapping[str, File], *, time: int) -> bytes:
    entries = {parent: File(None, 0o755) for path in files for parent in parents(path)} | dict(files)
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(entry(".", File(None, 0o755), time))
        for path in sorted(entries):
            file = entries[path]
            tar.addfile(entry(f"./{path}", file, time), io.BytesIO(file.content or b""))
    # The archive within is deflated already: nothing would be gained by a stronger compression.
    return gzip.compress(raw.getvalue(), 9, mtime=0)


def entry(name: str, file: File, time: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mtime = time
    info.mode = file.mode
    info.uname = info.gname = "root"
    if file.content is None:
        info.type = tarfile.DIRTYPE
    else:
        info.size = len(file.content)
    return info


def parents(path: str) -> Sequence[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def md5sums(content: Mapping[str, File]) -> bytes:
    """For `dpkg --verify`. MD5 is what dpkg asks for; it guards against broken disks, not against people."""
    lines = (
        f"{hashlib.md5(file.content, usedforsecurity=False).hexdigest()}  {path}\n"
        for path, file in sorted(content.items())
        if file.content is not None and not path.startswith("etc/")
    )
    return "".join(lines).encode()
