"""The manual's Markdown as roff: what is text stays text."""

import pytest
import roff


@pytest.mark.parametrize(
    ("markdown", "lines"),
    [
        ("some words\nand more", [".PP", "some words and more"]),
        ("## A heading", ['.SH "A heading"']),
        ('### It says "no"', ['.SS "It says \\(dqno\\(dq"']),
        ("* one\n  and more\n* two", [".IP \\(bu 3", "one and more", ".IP \\(bu 3", "two"]),
        ("    a\n\n    b", [".PP", ".RS 4", ".nf", "a", "", "b", ".fi", ".RE"]),
        ("the `code` and **this**", [".PP", "the \\fBcode\\fR and \\fBthis\\fR"]),
        ("a\\b `c\\d`", [".PP", "a\\eb \\fBc\\ed\\fR"]),
        ("to -c FILE", [".PP", "to \\-c FILE"]),
        ("'tis …", [".PP", "\\(aqtis \\[u2026]"]),
        (".so /etc/passwd", [".PP", "\\&.so /etc/passwd"]),
        ("| a | b |\n|---|---|\n| `x` | y |", [".TP", "\\fBx\\fR", "y"]),
        (
            "| key | default | meaning |\n|---|---|---|\n| `x` | 5 | y \\| z |\n| `w` | | |",
            [".TP", "\\fBx\\fR", "\\fIdefault\\fR: 5", ".br", "y | z", ".TP", "\\fBw\\fR", "\\&"],
        ),
    ],
)
def test_each_form_has_its_roff(markdown: str, lines: list[str]) -> None:
    assert roff.converted(f"# Title\n\n{markdown}\n").splitlines() == lines


def test_an_indented_line_is_a_block_only_after_an_empty_one() -> None:
    assert ".nf" not in roff.converted("# T\n\n* one\n    and more\n").splitlines()
