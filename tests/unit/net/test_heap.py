"""Free memory within the heap, back to the system."""

import platform

from edge.net.heap import trimmer


def test_there_is_a_way_to_give_memory_back_where_the_library_is_glibc() -> None:
    trim = trimmer()
    assert (trim is not None) is (platform.libc_ver()[0] == "glibc")
    if trim is not None:
        trim()
