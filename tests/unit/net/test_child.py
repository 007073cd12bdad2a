"""What can be judged about a child without starting one."""

from pathlib import Path

import pytest

from edge.net.command import NotStarted, environment, find_program, why_not
from edge.net.reaper import Proc, parse_stat, signal_name


def test_a_child_gets_the_base_of_our_environment_and_what_the_config_says() -> None:
    ours = {
        "PATH": "/bin",
        "HOME": "/root",
        "LC_ALL": "C",
        "TZ": "UTC",
        "API_TOKEN": "x",
        "SSH_AUTH_SOCK": "/s",
    }
    assert environment(ours, {"HOME": "/srv", "KEY": "1"}) == {
        "PATH": "/bin",
        "HOME": "/srv",
        "LC_ALL": "C",
        "TZ": "UTC",
        "KEY": "1",
    }


def test_there_is_always_a_path() -> None:
    assert "/bin" in environment({}, {})["PATH"]


def program(folder: Path, name: str, mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_a_program_is_found_in_the_path(tmp_path: Path) -> None:
    path = program(tmp_path, "serve")
    assert find_program("serve", f"/nowhere:{tmp_path}", None) == str(path)


def test_a_program_with_a_slash_is_relative_to_the_working_directory(tmp_path: Path) -> None:
    path = program(tmp_path, "serve")
    assert find_program("./serve", "/bin", str(tmp_path)) == str(path)


@pytest.mark.parametrize(
    ("path", "shown"), [("/nowhere:/neither", "2 folders"), ("/nowhere", "1 folder"), ("", "0 folders")]
)
def test_a_command_that_is_nowhere_is_named_with_what_to_do(path: str, shown: str) -> None:
    with pytest.raises(NotStarted) as failure:
        find_program("serve-git", path, None)
    assert str(failure.value) == (
        f"the command serve-git was not found, or is not executable, in PATH ({shown}); "
        "install it, or write its whole path"
    )


def test_what_is_wrong_with_a_command_is_said(tmp_path: Path) -> None:
    program(tmp_path, "plain", 0o644)
    wrong = {
        str(tmp_path / "absent"): "does not exist",
        str(tmp_path / "plain"): "is not executable",
        str(tmp_path): "is a directory",
    }
    for command, words in wrong.items():
        with pytest.raises(NotStarted, match=f"the command {command} {words}"):
            find_program(command, "/bin", None)


def test_a_missing_working_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match=r"the working directory /not/there does not exist"):
        find_program("sh", "/bin", "/not/there")


def test_a_script_that_cannot_run_is_explained(tmp_path: Path) -> None:
    path = str(program(tmp_path, "serve"))
    assert "interpreter" in why_not(FileNotFoundError(2, "No such file"), path)
    assert "#! line" in why_not(OSError(8, "Exec format error"), path)
    assert why_not(PermissionError(13, "Permission denied"), path) == "Permission denied"


def test_signals_have_names() -> None:
    assert (signal_name(9), signal_name(40)) == ("SIGKILL", "signal 40")


def test_a_stat_line_is_read_whatever_the_program_calls_itself() -> None:
    tail = "S 7 40 41 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 1000 2"
    for name in ("sleep", "a b", ") S 1 1 (", ""):
        assert parse_stat(f"42 ({name}) {tail}") == Proc(42, "S", 7, 40, 41, 12345, 1, 2, 26)
    assert parse_stat("") is None
    assert parse_stat("42 (sleep) S 7") is None


def test_zombies_are_not_alive() -> None:
    assert [Proc(1, state, 0, 0, 0, 0).is_alive for state in "RSDZX"] == [True, True, True, False, False]
