import os
from pathlib import Path

import pytest

from edge.host.disks import disks, disks_text
from edge.host.facts import NotHere, bytes_text, duration_text
from edge.host.machine import memory, memory_text, overview, overview_text
from edge.host.network import HEADER, NLMSG_DONE, NLMSG_ERROR, network, network_text, parse_addresses
from edge.host.processes import BETWEEN_LOOKS_S, parse_stat, processes, processes_text
from edge.host.units import failed_units, failed_units_text, parse_units
from tests.support.fake_root import add_process, make_root

MIB = 1024 * 1024


def statvfs(mount: str) -> os.statvfs_result:
    if mount == "/locked":
        raise PermissionError(13, "Permission denied")
    blocks = 0 if mount == "/empty" else 1000
    files = 0 if "usb" in mount else 500
    return os.statvfs_result((4096, MIB, blocks, 150, 100, files, 400, 400, 0, 255))


def never(mount: str) -> os.statvfs_result:
    raise AssertionError(f"{mount} must not be asked")


# -- overview and memory


def test_overview_tells_system_uptime_load_and_pressure(tmp_path: Path) -> None:
    found = overview(make_root(tmp_path))
    assert found["os"] == "Debian GNU/Linux 12 (bookworm)"
    assert found["hostname"] == os.uname().nodename
    assert found["uptime_seconds"] == 93784.25
    assert found["cpu_pressure"] == {"some": {"avg10": 1.5, "avg60": 0.75, "avg300": 0.25}}
    text = overview_text(found)
    assert "up for 1 d 2 h" in text
    assert "CPU pressure: tasks waited 1.5 % of the last 10 s" in text


def test_overview_leaves_out_what_a_system_does_not_tell(tmp_path: Path) -> None:
    found = overview(tmp_path)
    assert found["os"] == os.uname().sysname
    assert {"uptime_seconds", "cpu_pressure"}.isdisjoint(found)
    assert "uptime unknown" in overview_text(found)


def test_memory_counts_available_as_not_used(tmp_path: Path) -> None:
    found = memory(make_root(tmp_path))
    assert (found["total_bytes"], found["used_bytes"]) == (4_096_000_000, 3_072_000_000)
    assert (found["used_percent"], found["swap_used_bytes"]) == (75.0, 512_000_000)
    assert found["pressure"]["full"]["avg10"] == 2.0
    assert memory_text(found).splitlines() == [
        "2.9 GiB of 3.8 GiB in use (75.0 %), 976.6 MiB available",
        "swap: 488.3 MiB of 1.9 GiB in use",
        "memory pressure: tasks waited 12.0 % of the last 10 s, 1.0 % of the last 5 min",
    ]


def test_memory_without_swap_or_pressure(tmp_path: Path) -> None:
    meminfo = "MemTotal: 1000 kB\nMemFree: 400 kB\n"  # an old kernel: no MemAvailable
    root = make_root(tmp_path, proc__meminfo=meminfo, proc__pressure__memory=None)
    found = memory(root)
    assert (found["available_bytes"], found["used_percent"]) == (409_600, 60.0)
    assert memory_text(found).splitlines()[1:] == ["no swap"]


def test_memory_says_plainly_that_it_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotHere, match="meminfo"):
        memory(tmp_path)


# -- disks


def test_disks_lists_each_file_system_once_with_figures(tmp_path: Path) -> None:
    found = {disk["mount"]: disk for disk in disks(make_root(tmp_path), statvfs=statvfs)["disks"]}
    assert list(found) == ["/", "/run", "/media/usb stick", "/mnt/nas", "/mnt/ssh", "/locked"]
    assert found["/"] == {
        "mount": "/", "device": "/dev/sda1", "type": "ext4", "read_only": False, "total_bytes": 1000 * MIB,
        "used_bytes": 850 * MIB, "available_bytes": 100 * MIB, "used_percent": 89.5, "inodes": 500, "inodes_used": 100,
    }  # fmt: skip
    assert found["/media/usb stick"]["read_only"]
    assert "inodes" not in found["/media/usb stick"]


def test_network_file_systems_are_not_asked_since_they_might_hang(tmp_path: Path) -> None:
    mounts = "nas:/x /mnt/nas nfs4 rw 0 0\n//nas/x /mnt/cifs cifs rw 0 0\nx /mnt/ssh fuse.sshfs rw 0 0\n"
    found = disks(make_root(tmp_path, proc__self__mounts=mounts), statvfs=never)
    assert [disk["mount"] for disk in found["disks"]] == ["/mnt/nas", "/mnt/cifs", "/mnt/ssh"]
    assert all("not asked" in disk["note"] for disk in found["disks"])


def test_a_mount_that_hides_another_is_shown_instead_of_it(tmp_path: Path) -> None:
    mounts = "first /x tmpfs rw 0 0\nsecond /x tmpfs rw 0 0\n"
    found = disks(make_root(tmp_path, proc__self__mounts=mounts), statvfs=statvfs)
    assert [disk["device"] for disk in found["disks"]] == ["second"]


def test_disks_as_text_points_at_what_is_nearly_full(tmp_path: Path) -> None:
    found = disks(make_root(tmp_path), statvfs=statvfs)
    found["disks"][1]["used_percent"] = 97.0
    lines = disks_text(found).splitlines()
    assert (
        lines[0]
        == "/ (ext4 on /dev/sda1): 850.0 MiB of 1000.0 MiB in use (89.5 %), 100.0 MiB available; inodes 20 %"
    )
    assert "NEARLY FULL" in lines[1]
    assert lines[2].startswith("/media/usb stick (vfat on /dev/sdb1, read-only): ")
    assert lines[-1] == "/locked (ext4 on /dev/sdc1): cannot be asked: Permission denied"
    assert disks_text({"disks": []}) == "no file systems"


def test_disks_says_plainly_that_mounts_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotHere, match="mounts"):
        disks(tmp_path)


# -- network


def test_network_joins_addresses_with_interfaces_routes_and_name_servers(tmp_path: Path) -> None:
    given = [(1, "127.0.0.1/8"), (2, "192.0.2.7/24"), (2, "2001:db8::7/64")]
    found = network(make_root(tmp_path), addresses=lambda: given)
    assert found == {
        "interfaces": [
            {"name": "lo", "addresses": ["127.0.0.1/8"], "state": "unknown", "mtu": 65536},
            {"name": "eth0", "addresses": ["192.0.2.7/24", "2001:db8::7/64"], "state": "up", "mtu": 1500},
        ],
        "default_routes": [
            {"interface": "eth0", "gateway": "192.0.2.1"},
            {"interface": "wg0", "gateway": "the link itself"},
            {"interface": "eth0", "gateway": "2001:db8::1"},
        ],
        "name_servers": ["192.0.2.53", "2001:db8::53"],
        "search": ["plant.example", "lan"],
    }
    assert network_text(found).splitlines() == [
        "lo (unknown): 127.0.0.1/8",
        "eth0 (up): 192.0.2.7/24, 2001:db8::7/64",
        "default route by 192.0.2.1 on eth0",
        "default route by the link itself on wg0",
        "default route by 2001:db8::1 on eth0",
        "name servers: 192.0.2.53, 2001:db8::53",
        "search domains: plant.example, lan",
    ]


def test_behind_systemd_resolved_the_real_name_servers_are_shown(tmp_path: Path) -> None:
    real = "nameserver 192.0.2.99\n"
    stub = "nameserver 127.0.0.53\nsearch lan\n"
    root = make_root(
        tmp_path,
        etc__resolv_conf=None,
        **{"etc__resolv.conf": stub, "run__systemd__resolve__resolv.conf": real},
    )
    found = network(root, addresses=list)
    assert (found["name_servers"], found["search"]) == (["192.0.2.99"], ["lan"])


def test_where_addresses_cannot_be_read_the_rest_is_still_told(tmp_path: Path) -> None:
    def refused() -> list[tuple[int, str]]:
        raise PermissionError(13, "Permission denied")

    root = make_root(
        tmp_path, **{"proc__net__route": None, "proc__net__ipv6_route": None, "etc__resolv.conf": None}
    )
    found = network(root, addresses=refused)
    text = network_text(found)
    assert found["note"] == "addresses cannot be read here: Permission denied"
    assert "eth0 (up): no address" in text
    assert "no default route" in text
    assert "name servers: none" in text
    assert text.endswith(found["note"])


def test_a_netlink_answer_is_read_attribute_by_attribute() -> None:
    point_to_point = bytes.fromhex(
        "3400000014000200010000000000000002188000"
        "04000000"  # header; AF_INET, /24, scope 0, index 4
        "08000100c0000202"
        "08000200c0000201"
        "0b0003007767300000000000"  # ADDRESS is the peer, LOCAL ours, label
    )
    six = bytes.fromhex(
        "2c0000001400020001000000000000000a4080000200000014000100fe800000000000000000000000000001"
    )
    done = HEADER.pack(HEADER.size, NLMSG_DONE, 0, 1, 0)
    assert parse_addresses(point_to_point + six) == ([(4, "192.0.2.1/24"), (2, "fe80::1/64")], False)
    assert parse_addresses(six + done) == ([(2, "fe80::1/64")], True)
    assert parse_addresses(b"") == ([], False)
    with pytest.raises(OSError, match="refused"):
        parse_addresses(HEADER.pack(HEADER.size, NLMSG_ERROR, 0, 1, 0))


# -- units


def test_failed_units_are_read_line_by_line(tmp_path: Path) -> None:
    table = (
        "backup.service loaded failed failed Nightly backup of /srv\nmnt.mount not-found failed failed\n\n"
    )
    found = failed_units(make_root(tmp_path), run=lambda command: table)
    assert found["systemd"] is True
    assert [unit["unit"] for unit in found["units"]] == ["backup.service", "mnt.mount"]
    assert failed_units_text(found).splitlines()[0] == "backup.service: Nightly backup of /srv (failed)"


def test_no_failed_units_and_no_systemd_are_two_answers(tmp_path: Path) -> None:
    assert (
        failed_units_text(failed_units(make_root(tmp_path), run=lambda command: "")) == "no unit has failed"
    )
    without = failed_units(tmp_path / "elsewhere", run=lambda command: pytest.fail("not to be asked"))
    assert without["systemd"] is False
    assert "not started by systemd" in failed_units_text(without)


def test_a_line_that_is_no_unit_is_passed_over() -> None:
    assert parse_units("0 loaded units listed.\nx\n")[1:] == []


# -- processes


def test_processes_by_memory_and_by_cpu(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    add_process(root, 10, "big (one)", rss_pages=1000, ticks=100)
    add_process(root, 20, "busy", rss_pages=10, ticks=100)
    add_process(root, 30, "ends", rss_pages=5000, ticks=100)
    add_process(root, 40, "reborn", rss_pages=1, ticks=5)

    def a_moment(seconds: float) -> None:
        assert seconds == BETWEEN_LOOKS_S
        add_process(root, 20, "busy", rss_pages=10, ticks=150)
        add_process(root, 40, "reborn", rss_pages=1, ticks=500, born=200)
        (root / "proc/30/stat").unlink(missing_ok=True)

    by_memory = processes(root, pause=a_moment)
    assert [row["name"] for row in by_memory["processes"]] == ["big (one)", "busy", "reborn"]
    assert by_memory["count"] == 3
    assert by_memory["processes"][0]["rss_bytes"] == 1000 * os.sysconf("SC_PAGE_SIZE")
    add_process(root, 20, "busy", rss_pages=10, ticks=100)
    add_process(root, 40, "reborn", rss_pages=1, ticks=5)
    by_cpu = processes(root, "cpu", 1, pause=a_moment)
    (busiest,) = by_cpu["processes"]
    assert busiest["name"] == "busy"
    assert busiest["cpu_percent"] > 0
    assert "busy" in processes_text(by_cpu)


def test_a_process_that_took_the_id_of_another_is_not_charged_for_it(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    add_process(root, 40, "old", rss_pages=1, ticks=5)
    found = processes(root, pause=lambda s: add_process(root, 40, "new", rss_pages=1, ticks=500, born=200))
    assert [(row["name"], row["cpu_percent"]) for row in found["processes"]] == [("new", 0.0)]


def test_what_is_no_process_is_passed_over() -> None:
    assert parse_stat(b"", 0) is None
    assert parse_stat(b"12 (x) S 1 2", 0) is None


def test_without_proc_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotHere, match="/proc"):
        processes(tmp_path, pause=lambda s: pytest.fail("nothing to wait for"))


def test_numbers_are_said_as_a_person_would() -> None:
    assert [bytes_text(n) for n in (0, 1023, 1024, 5 * MIB, 3 * 1024**3, 2 * 1024**4)] == [
        "0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 GiB", "2.0 TiB",
    ]  # fmt: skip
    assert [duration_text(s) for s in (59, 3599, 7260, 90_000)] == ["0 min", "59 min", "2 h 1 min", "1 d 1 h"]
