"""What goes into the archive, and in which form."""

import stat
import zipfile
from pathlib import Path

import pytest
import pyz
from machine import Interpreter
from say import Stop

SOMEBODY = Interpreter(Path("/usr/bin/python3.11"), "3.11.2", "cpython-311", "a70d0d0a")


@pytest.mark.parametrize(
    ("path", "is_wanted"),
    [
        ("trio/_core/_run.py", True),
        ("certifi/cacert.pem", True),
        ("typing_extensions.py", True),
        ("trio/_core/_tests/test_run.py", False),
        ("trio/py.typed", False),
        ("attr/__init__.pyi", False),
        ("bin/httpx", False),
        ("trio-0.35.0.dist-info/METADATA", True),
        ("trio-0.35.0.dist-info/licenses/LICENSE.MIT", True),
        ("sniffio-1.3.1.dist-info/LICENSE", True),
        ("trio-0.35.0.dist-info/RECORD", False),
        ("trio-0.35.0.dist-info/direct_url.json", False),
    ],
)
def test_what_of_a_wheel_belongs_into_the_archive(path: str, is_wanted: bool) -> None:
    assert pyz.is_wanted(tuple(path.split("/"))) is is_wanted


def test_a_wheel_that_is_not_pure_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "fast-1.0.dist-info" / "WHEEL"
    wheel.parent.mkdir()
    wheel.write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: false\n")
    with pytest.raises(Stop, match=r"fast-1\.0\.dist-info is not pure Python"):
        pyz.prune(tmp_path)


def test_native_code_in_a_wheel_that_calls_itself_pure_is_refused(tmp_path: Path) -> None:
    module = tmp_path / "fast" / "speedups.cpython-311-x86_64-linux-gnu.so"
    module.parent.mkdir()
    module.touch()
    with pytest.raises(Stop, match=r"fast/speedups.* is native code"):
        pyz.prune(tmp_path)


def test_a_tree_holds_compiled_modules_and_the_data_beside_them(tmp_path: Path) -> None:
    sources, compiled = tmp_path / "sources", tmp_path / "compiled"
    for folder in (sources / "pkg", sources / "pkg-1.dist-info", compiled / "pkg"):
        folder.mkdir(parents=True)
    (sources / "pkg" / "mod.py").write_text("1")
    (sources / "pkg" / "table.txt").write_text("data")
    (sources / "pkg-1.dist-info" / "METADATA").write_text("Version: 1")
    (compiled / "pkg" / "mod.pyc").write_bytes(b"compiled")
    assert pyz.tree("cpython-311", sources, compiled) == {
        "cpython-311/pkg/mod.pyc": b"compiled",
        "cpython-311/pkg/table.txt": b"data",
    }


def test_the_archive_does_not_depend_on_the_order_of_its_content(tmp_path: Path) -> None:
    pyz.write(tmp_path / "one.pyz", {"b": b"2", "a": b"1"})
    pyz.write(tmp_path / "two.pyz", {"a": b"1", "b": b"2"})
    assert (tmp_path / "one.pyz").read_bytes() == (tmp_path / "two.pyz").read_bytes()
    assert zipfile.ZipFile(tmp_path / "one.pyz").namelist() == ["a", "b"]


def test_the_archive_can_be_started_by_its_name(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "one.pyz"
    pyz.write(target, {"__main__.py": b""})
    assert target.read_bytes().startswith(b"#!/usr/bin/python3 -IS\n")
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    assert list(target.parent.iterdir()) == [target]


def test_the_entry_knows_the_version_and_the_magic_numbers() -> None:
    text = pyz.entry([SOMEBODY]).decode()
    assert "MAGIC_NUMBERS = {'cpython-311': 'a70d0d0a'}" in text
    assert "@" not in text
    compile(text, "__main__.py", "exec")


def test_a_folder_of_modules_without_a_package_becomes_one(tmp_path: Path) -> None:
    (tmp_path / "ruamel" / "yaml").mkdir(parents=True)
    (tmp_path / "ruamel" / "yaml" / "__init__.py").write_text("kept = True")
    (tmp_path / "single.py").touch()
    (tmp_path / "x.dist-info").mkdir()
    pyz.complete(tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.py")) == [
        "ruamel/__init__.py",
        "ruamel/yaml/__init__.py",
        "single.py",
    ]
    assert (tmp_path / "ruamel" / "yaml" / "__init__.py").read_text() == "kept = True"
