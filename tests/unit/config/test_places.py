"""Lines of keys in a TOML text."""

import pytest

from edge.config.places import Places

TEXT = '''\
name = "x" # [gateway]
[gateway] # the endpoint
listen = [
  "a = b",  # ]
  "[c]",
]
tls.cert = "c"

[servers."my git"]
command = """
env = 1
[servers.no]
"""
"env" = { A = "#", B = '[' }
'cwd' = \'\'\'
x = 1\'\'\'
[[  list.of ]]
last = 1'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 1),
        (("gateway",), 2),
        (("gateway", "listen"), 3),
        (("gateway", "listen", 1), 3),
        (("gateway", "tls", "cert"), 7),
        (("gateway", "missing"), 2),
        (("servers",), 9),
        (("servers", "my git", "command"), 10),
        (("servers", "my git", "env", "B"), 14),
        (("servers", "my git", "cwd"), 15),
        (("servers", "no"), 9),
        (("list", "of", "last"), 18),
        (("elsewhere",), 0),
        ((), 0),
    ],
)
def test_a_key_has_the_line_of_its_statement_or_of_the_table_around_it(
    path: tuple[str | int, ...], line: int
) -> None:
    assert Places(TEXT, "c").line_of(path) == line


def test_a_place_is_file_line_and_keys_as_far_as_they_are_known() -> None:
    places = Places(TEXT, "c.toml")
    assert places.place(("gateway", "listen")) == "c.toml:3: gateway.listen"
    assert places.place(("nothing",)) == "c.toml: nothing"
    assert places.place(()) == "c.toml"
    assert Places("", "").place(("a", "b")) == "a.b"


def test_a_key_with_an_escape_gets_the_line_of_its_table() -> None:
    assert Places('[t]\n"\\u0061" = 1', "c").line_of(("t", "a")) == 1
