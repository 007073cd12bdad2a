"""A file system root with the files of a small Linux machine that the `host` server reads."""

from pathlib import Path

FILES = {
    "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "etc/resolv.conf": "# by hand\nnameserver 192.0.2.53 # first\nnameserver 2001:db8::53\nsearch plant.example lan\n",
    "proc/uptime": "93784.25 1000.00\n",
    "proc/pressure/cpu": "some avg10=1.50 avg60=0.75 avg300=0.25 total=123\n",
    "proc/pressure/memory": (
        "some avg10=12.00 avg60=3.00 avg300=1.00 total=5\nfull avg10=2.00 avg60=1.00 avg300=0.50 total=3\n"
    ),
    "proc/meminfo": (
        "MemTotal:        4000000 kB\nMemFree:          500000 kB\nMemAvailable:    1000000 kB\nBuffers:  100 kB\n"
        "Cached:  400000 kB\nSwapTotal:       2000000 kB\nSwapFree:        1500000 kB\nHugePages_Total: 0\nodd line\n"
    ),
    "proc/self/mounts": (
        "proc /proc proc rw 0 0\n"
        "/dev/sda1 / ext4 rw,relatime 0 0\n"
        "/dev/sda1 /srv/bind\\040mount ext4 rw 0 0\n"
        "tmpfs /run tmpfs rw 0 0\n"
        "tmpfs /sys/fs/cgroup tmpfs ro 0 0\n"
        "/dev/sdb1 /media/usb\\040stick vfat ro 0 0\n"
        "nas:/export /mnt/nas nfs4 rw 0 0\n"
        "me@host: /mnt/ssh fuse.sshfs rw 0 0\n"
        "/dev/sdc1 /locked ext4 rw 0 0\n"
        "empty /empty tmpfs rw 0 0\n"
        "short line\n"
    ),
    "proc/net/route": (
        "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
        "eth0 00000000 010200C0 0003 0 0 100 00000000 0 0 0\n"
        "wg0 00000000 00000000 0001 0 0 200 00000000 0 0 0\n"
        "eth0 000200C0 00000000 0001 0 0 100 00FFFFFF 0 0 0\n"
    ),
    "proc/net/ipv6_route": (
        f"{'0' * 32} 00 {'0' * 32} 00 20010db8{'0' * 23}1 00000400 00000001 00000000 00000003 eth0\n"
        f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200 lo\n"
    ),
    "sys/class/net/lo/ifindex": "1\n",
    "sys/class/net/lo/operstate": "unknown\n",
    "sys/class/net/lo/mtu": "65536\n",
    "sys/class/net/eth0/ifindex": "2\n",
    "sys/class/net/eth0/operstate": "up\n",
    "sys/class/net/eth0/mtu": "1500\n",
    "sys/class/net/odd/operstate": "down\n",
    "run/systemd/system/.keep": "",
}


def make_root(place: Path, **changes: str | None) -> Path:
    """The root, with files replaced or (None) left out; `/` in a name is written `__`."""
    files = {**FILES, **{name.replace("__", "/"): text for name, text in changes.items()}}
    for name, text in files.items():
        if text is not None:
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return place


def add_process(root: Path, pid: int, name: str, *, rss_pages: int, ticks: int, born: int = 100) -> None:
    """What /proc shows of one process."""
    fields = [
        "S",
        "1",
        *["0"] * 9,
        str(ticks),
        "0",
        *["0"] * 4,
        "3",
        "0",
        str(born),
        "999999",
        str(rss_pages),
        "0",
    ]
    place = root / "proc" / str(pid)
    place.mkdir(parents=True, exist_ok=True)
    (place / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
