"""Each file of tests/golden/import/ becomes exactly the config and the notes that stand beside it.

Written by hand after the formats' documentation. NAME.toml is the config, NAME.notes all that is said about it.
"""

from pathlib import Path

import pytest

from edge.config.importers.formats import Imported, import_text
from edge.config.load import load

GOLDEN = Path(__file__).parents[3] / "golden" / "import"
CASES = sorted(path for path in GOLDEN.iterdir() if path.suffix in (".json", ".jsonc", ".yaml"))


def imported(path: Path) -> Imported:
    return import_text(path.read_text(), source=path.name)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_the_config_is_the_one_that_is_expected(path: Path) -> None:
    assert imported(path).text == path.with_name(f"{path.name}.toml").read_text()


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_the_notes_are_those_that_are_expected(path: Path) -> None:
    lines = [f"{note.kind}: {note.place}: {note.text}" for note in imported(path).notes]
    assert lines == path.with_name(f"{path.name}.notes").read_text().splitlines()


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_it_loads_once_its_variables_are_set_and_only_then(path: Path) -> None:
    result = imported(path)
    env = dict.fromkeys(result.variables, "value") | {"HOME": "/home/x"}

    def no_file(name: str) -> str:
        raise AssertionError(name)

    config = load(result.text, env=env, read_secret=no_file, source="c.toml")
    disabled = result.text.count("\n#[servers.")
    assert (len(config.servers) + disabled, len(config.uplinks)) == (result.n_servers, result.n_uplinks)


@pytest.mark.parametrize(
    "secret", ["hunter2", "glpat-abc", "a-plain-token", "an-example-token", "shared-token", "0123456789"]
)
def test_no_secret_of_a_foreign_file_is_in_what_comes_of_it(secret: str) -> None:
    for path in CASES:
        result = imported(path)
        assert secret not in result.text, path.name
        assert all(secret not in note.text for note in result.notes), path.name
        assert all(secret not in what for what in result.variables.values()), path.name
