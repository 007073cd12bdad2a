"""Environments are made once, and again when the lock or the interpreter has changed."""

from pathlib import Path

import environments
import places


def test_a_digest_tells_where_one_file_ends_and_the_next_begins(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    one.write_bytes(b"ab")
    two.write_bytes(b"c")
    three.write_bytes(b"a")
    four = tmp_path / "four"
    four.write_bytes(b"bc")
    assert environments.digest(one, two) != environments.digest(three, four)


def test_a_stamp_counts_only_beside_an_interpreter(tmp_path: Path) -> None:
    environments.write_stamp(tmp_path, python="3.11.7", lock="x")
    assert environments.stamp_of(tmp_path) == {}
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    assert environments.stamp_of(tmp_path) == {"python": "3.11.7", "lock": "x"}


def test_a_broken_stamp_is_no_stamp(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / environments.STAMP).write_text("{")
    assert environments.stamp_of(tmp_path) == {}


def test_every_lock_has_digests_and_names_no_index() -> None:
    locks = [places.RUNTIME_LOCK, places.DEV_LOCK, *places.PEER_LOCKS.glob("*.txt")]
    assert len(locks) == 7
    for lock in locks:
        text = lock.read_text()
        pins = [line for line in text.splitlines() if line and line[0] not in "# "]
        assert all("==" in pin and pin.endswith("\\") for pin in pins), lock
        assert text.count("--hash=sha256:") >= len(pins), lock
        assert "://" not in text, lock


def test_the_node_locks_have_digests_and_name_no_registry() -> None:
    for lock in places.PEER_LOCKS.glob("*/package-lock.json"):
        text = lock.read_text()
        assert '"integrity": "sha512-' in text
        assert '"resolved"' not in text
