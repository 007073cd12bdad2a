"""Session ids of polling links are kept over restarts, readable by nobody else."""

from pathlib import Path

import pytest

from edge.parts.link_store import LinkStore

URL = "http://hub.example.com/e/secret"


def test_what_was_saved_is_loaded_by_the_next_process(tmp_path: Path) -> None:
    LinkStore(tmp_path / "state").save("box", URL, "abc123")
    again = LinkStore(tmp_path / "state")
    assert again.load("box", URL) == "abc123"
    assert again.load("other", URL) is None
    assert again.load("box", "http://other") is None


def test_a_newer_id_replaces_the_older_and_none_forgets_it(tmp_path: Path) -> None:
    store = LinkStore(tmp_path)
    store.save("box", URL, "first")
    store.save("box", URL, "second")
    assert store.load("box", URL) == "second"
    store.save("box", URL, None)
    store.save("box", URL, None)
    assert store.load("box", URL) is None
    assert list(tmp_path.iterdir()) == []


def test_only_we_can_read_it_and_its_name_tells_nothing(tmp_path: Path) -> None:
    LinkStore(tmp_path).save("box", URL, "abc123")
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "box" not in file.name


@pytest.mark.parametrize("content", [b"", b"a b", b"\xff", b"x" * 1000, b"a\nb"])
def test_a_file_that_holds_no_id_counts_as_none(tmp_path: Path, content: bytes) -> None:
    store = LinkStore(tmp_path)
    store.save("box", URL, "abc123")
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert store.load("box", URL) is None


def test_without_a_directory_nothing_is_kept() -> None:
    store = LinkStore(None)
    store.save("box", URL, "abc123")
    assert store.load("box", URL) is None


def test_a_directory_that_cannot_be_used_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    store = LinkStore(tmp_path / "file" / "state")
    store.save("box", URL, "abc123")
    store.save("box", URL, "abc124")
    assert store.load("box", URL) is None
    assert caplog.messages == ["saved sessions cannot be used"]
    assert "abc" not in caplog.text
