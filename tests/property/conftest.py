"""What property tests share."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def quiet() -> Iterator[None]:
    """Thousands of refusals are not worth their lines."""
    ours = logging.getLogger("edge")
    nowhere = logging.NullHandler()
    ours.addHandler(nowhere)
    ours.propagate = False
    yield
    ours.propagate = True
    ours.removeHandler(nowhere)
