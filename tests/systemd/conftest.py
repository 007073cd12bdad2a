"""A box for each Debian release, the package, and both together. What is not to be had is said, and skipped."""

from collections.abc import Iterator
from pathlib import Path

import deb
import pytest

from tests.support.peers import missing
from tests.support.service import install
from tests.support.systemd_sandbox import SUITES, Box, booted, why_not

NEXT_VERSION = "99.0"


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if (reason := why_not(name)) is not None:
        pytest.skip(reason)
    return name


@pytest.fixture
def box(suite: str) -> Iterator[Box]:
    """A freshly installed Debian, up and running."""
    with booted(suite) as found:
        yield found


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("deb"), "")


@pytest.fixture(scope="session")
def next_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A later version, with the same program in it."""
    return built(tmp_path_factory.mktemp("deb"), NEXT_VERSION)


def built(folder: Path, version: str) -> Path:
    if (reason := missing("pyz")) is not None:
        pytest.skip(reason)
    return deb.make(folder, version)


@pytest.fixture(scope="module")
def as_installed(suite: str, package: Path) -> Iterator[Box]:
    """The same for tests that only look: they share one."""
    with booted(suite) as found:
        install(found, package)
        yield found


@pytest.fixture
def installed(box: Box, package: Path) -> Box:
    """A box in which the package has just been installed, and the service is ready."""
    install(box, package)
    return box
