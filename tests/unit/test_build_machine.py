"""What the build finds out about the machine."""

import subprocess
import sys
from pathlib import Path

import machine
import pytest


def test_the_running_python_stands_for_its_own_minor() -> None:
    own = f"cpython-3{sys.version_info.minor}"
    [found] = [each for each in machine.interpreters() if each.tag == own]
    assert found.path == Path(sys.executable)
    assert found.version == ".".join(map(str, sys.version_info[:3]))


def test_interpreters_are_one_per_minor_and_sorted() -> None:
    tags = [each.tag for each in machine.interpreters()]
    assert tags == sorted(set(tags))


def test_what_does_not_start_is_no_interpreter(tmp_path: Path) -> None:
    broken = tmp_path / "python3.12"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    assert machine.ask(broken) is None
    assert machine.ask(tmp_path / "nothing") is None


def test_nothing_is_installed_outside_of_continuous_integration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert not machine.may_install()
    assert machine.install(["a-package-that-nobody-has"]) is False


def test_while_packages_are_installed_no_service_may_start(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with machine.no_services(policy):
        assert subprocess.run([policy, "prometheus", "start"], check=False).returncode == 101
    assert not policy.exists()


def test_a_machine_that_has_said_which_services_may_start_is_left_as_it_is(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    with machine.no_services(policy):
        assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"
