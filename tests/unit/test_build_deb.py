"""A Debian package as bytes: reproducible, and all of it root's."""

import io
import tarfile

import debfile
from debfile import File


def members(package: bytes) -> dict[str, bytes]:
    """Of an `ar` archive."""
    assert package.startswith(b"!<arch>\n")
    found, at = {}, 8
    while at < len(package):
        name, size = package[at : at + 16].decode().strip(), int(package[at + 48 : at + 58])
        found[name] = package[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    return found


def entries(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {info.name: info for info in tar}


def test_a_package_has_its_three_members_in_order() -> None:
    package = debfile.package({"control": File(b"odd")}, {"usr/bin/x": File(b"1")}, time=7)
    found = members(package)
    assert list(found) == ["debian-binary", "control.tar.gz", "data.tar.gz"]
    assert found["debian-binary"] == b"2.0\n"
    assert list(entries(found["data.tar.gz"])) == [".", "./usr", "./usr/bin", "./usr/bin/x"]


def test_everything_is_roots_and_has_the_time_that_was_asked_for() -> None:
    content = {"usr/bin/x": File(b"1", 0o755), "etc/secret": File(None, 0o700)}
    found = entries(members(debfile.package({}, content, time=7))["data.tar.gz"])
    assert {(info.uid, info.gid, info.uname, info.gname, info.mtime) for info in found.values()} == {
        (0, 0, "root", "root", 7)
    }
    modes = {name: (info.isdir(), info.mode) for name, info in found.items()}
    assert modes["./usr/bin/x"] == (False, 0o755)
    assert modes["./etc/secret"] == (True, 0o700)
    assert modes["./etc"] == (True, 0o755)


def test_the_same_content_in_another_order_gives_the_same_bytes() -> None:
    one = debfile.package({}, {"a": File(b"1"), "b": File(b"2")}, time=7)
    assert one == debfile.package({}, {"b": File(b"2"), "a": File(b"1")}, time=7)


def test_digests_are_of_all_files_but_those_that_may_be_changed() -> None:
    text = debfile.md5sums({"usr/x": File(b"1"), "etc/x": File(b"2"), "usr/d": File(None)}).decode()
    assert text == "c4ca4238a0b923820dcc509a6f75849b  usr/x\n"
