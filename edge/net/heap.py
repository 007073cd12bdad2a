"""Free memory within the heap, back to the system.

A TLS handshake takes some fifty KiB for a moment. Where many come at once, what the connections keep is made in
between, and the C library by itself only gives back what is free at the heap's end: the rest would stay resident for
as long as the connections do, which are links, and live for weeks. Source: malloc_trim(3), of glibc alone.
"""

from collections.abc import Callable


def trimmer() -> Callable[[], None] | None:
    """What gives it back, in some milliseconds; None where the C library has no such thing or needs none."""
    try:
        import ctypes  # only here: not every start needs it

        trim = ctypes.CDLL(None).malloc_trim
    except (ImportError, OSError, AttributeError):
        return None
    return lambda: trim(0)
