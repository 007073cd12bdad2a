"""What tests need to know about addresses and ports of this machine."""

import socket
import subprocess
import sys

TAKES = """
import socket, sys
family, host, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with socket.socket(family) as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
        sock.listen()
    except OSError:
        sys.exit(3)
"""


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def split(address: str) -> tuple[str, int]:
    """Host, without brackets, and port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def another_process_can_take(address: str) -> bool:
    """Whether one of our user can listen there too, with everything that the system offers for that."""
    host, port = split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    words = [sys.executable, "-I", "-S", "-c", TAKES, str(int(family)), host, str(port)]
    done = subprocess.run(words, check=False, timeout=30)
    assert done.returncode in (0, 3)
    return done.returncode == 0
