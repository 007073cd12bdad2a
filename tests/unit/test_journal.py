import os
from pathlib import Path

import pytest

from edge.journal import MAX_FIELDS, MAX_VALUE_BYTES, encoded, field_name, is_stream_of
from tests.support.journal import decoded


def test_a_field_is_a_line_and_one_with_line_feeds_has_its_length_before_it() -> None:
    assert encoded([("MESSAGE", "ein Wörtchen = 1"), ("PRIORITY", "6")]) == (
        b"MESSAGE=ein W\xc3\xb6rtchen = 1\nPRIORITY=6\n"
    )
    assert encoded([("MESSAGE", "a\nb")]) == b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n"


@pytest.mark.parametrize("text", ["", "=", "\n", "a\nPRIORITY=0\n", "\0\x1b", "\ud800", "x" * 100_000])
def test_whatever_a_value_holds_it_stays_one_field(text: str) -> None:
    fields = decoded(encoded([("MESSAGE", text), ("PRIORITY", "6")]))
    assert list(fields) == ["MESSAGE", "PRIORITY"]
    assert fields["MESSAGE"] == text.encode(errors="backslashreplace").decode()[:MAX_VALUE_BYTES]


def test_fields_beyond_the_limit_are_left_out() -> None:
    fields = decoded(encoded([(f"F{n}", "x") for n in range(200)]))
    assert len(fields) == MAX_FIELDS


@pytest.mark.parametrize(
    ("name", "prefix", "wanted"),
    [
        ("server", "MCP_EDGE_", "MCP_EDGE_SERVER"),
        ("took.s-ö", "MCP_EDGE_", "MCP_EDGE_TOOK_S__"),
        ("_PID", "", None),
        ("1st", "", None),
        ("", "", None),
        ("x" * 60, "MCP_EDGE_", None),
    ],
)
def test_names_are_as_the_journal_takes_them(name: str, prefix: str, wanted: str | None) -> None:
    assert field_name(name, prefix) == wanted


def test_a_stream_is_the_journals_if_device_and_inode_are_the_ones_in_the_environment(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as file:
        found = os.fstat(file.fileno())
        journal = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert is_stream_of(journal, file.fileno())
        for other in ({}, {"JOURNAL_STREAM": ""}, {"JOURNAL_STREAM": "x:y"}, {"JOURNAL_STREAM": "1:2"}):
            assert not is_stream_of(other, file.fileno())
    assert not is_stream_of(journal, -1)
