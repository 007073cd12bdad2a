"""Where the guard stands, and where systemd does its work."""

import pytest

from edge.cli.guard import is_run_by_systemd, told_of

SERVICE = "0::/system.slice/mcp-edge.service\n"
HYBRID = "1:name=systemd:/system.slice/mcp-edge.service\n0::/\n"
SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
TERMINAL = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-term.scope\n"
PID, SHELL = 4711, 4000


@pytest.mark.parametrize(
    ("main", "ppid", "cgroups", "is_systemds"),
    [
        (str(PID), 1, SERVICE, True),
        (str(PID), 900, SERVICE, True),  # a user's own manager is not process 1
        (str(PID), 1, HYBRID, True),
        (str(SHELL), SHELL, SERVICE, False),  # a script is the main process: after us it would go on
        (str(SHELL), SHELL, TERMINAL, False),
        (None, 1, SERVICE, True),  # systemd before version 248
        (None, SHELL, SERVICE, False),
        (str(PID), 1, SESSION, False),
    ],
)
def test_systemd_ends_what_is_left_only_if_we_are_the_main_process_of_a_service(
    main: str | None, ppid: int, cgroups: str, is_systemds: bool
) -> None:
    env = {"INVOCATION_ID": "5f"} | ({} if main is None else {"SYSTEMD_EXEC_PID": main})
    assert is_run_by_systemd(env, PID, ppid, cgroups) is is_systemds


def test_a_container_or_a_shell_is_not_systemd() -> None:
    assert not is_run_by_systemd({}, 1, 0, "0::/\n")
    assert not is_run_by_systemd({"SYSTEMD_EXEC_PID": str(PID)}, PID, 1, SERVICE)


def test_how_many_processes_were_ended_is_a_sentence() -> None:
    assert [told_of(n) for n in range(3)] == [
        "",
        "; 1 process of its servers has been ended",
        "; 2 processes of its servers have been ended",
    ]
