"""What the other end of a link did that it should not: a warning of its own, or a part of one about what came of it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Complaint:
    """`tell` writes the warning, `text` is the same in the reason of another line."""

    text: str
    tell: Callable[[], None]


def tell_at_once(complaint: Complaint) -> None:
    complaint.tell()
