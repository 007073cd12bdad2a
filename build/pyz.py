"""Builds dist/mcp-edge.pyz: the program and its libraries in one file that runs under a bare Python 3.11+.

    __main__.py                  puts the right tree on sys.path (archive_main.py)
    edge/ trio/ h11/ ...         the sources, for Pythons that the archive was not compiled for
    cpython-311/edge/ ...        `mod.pyc` and data files, one tree per minor found on the building machine
    trio-*.dist-info/            METADATA and licences: what importlib.metadata and lawyers look for

Reproducible: the libraries come from hash-pinned pure-Python wheels; names are sorted; times and modes are
fixed. The bytes depend on the sources, on the lock and on the interpreters that compile, and on nothing else.

Deflated, since an operator ships this file to many hosts: 7 MB instead of 18. Stored, it would start some
15 ms sooner of 150 (all libraries imported, median of 15); from the sources alone it takes 430.
"""

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import environments
import machine
import sbom
import sums
from machine import Interpreter
from places import BUILD, DIST, PYZ, ROOT, RUNTIME_LOCK, SBOM, STAGE, VENV
from say import Stop, line, progress, run_quietly

SHEBANG = b"#!/usr/bin/python3 -IS\n"
FIXED_TIME = (1980, 1, 1, 0, 0, 0)
NATIVE = {".so", ".pyd", ".dylib", ".dll"}
METHOD = zipfile.ZIP_DEFLATED
LICENCE = re.compile(r"(licen[cs]e|copying|notice|authors)", re.IGNORECASE)
STAMP = STAGE / "current.json"  # what PYZ was made from
WHEELS = "wheels.json"  # beside the unpacked libraries: name → version, file, sha256


def make_current() -> None:
    """Builds PYZ and what lies beside it, unless it is what the sources, the lock and the interpreters give."""
    pythons = machine.interpreters()
    wanted = inputs(pythons)
    if PYZ.exists() and SBOM.exists() and STAMP.exists() and STAMP.read_text() == wanted:
        line(f"{PYZ.relative_to(ROOT)} is current")
        return
    make(PYZ, pythons)
    libraries = stage_libraries()
    sbom.write(SBOM, PYZ, version(), libraries, libraries.with_name(WHEELS))
    sums.write(DIST, PYZ.name, SBOM.name)
    STAMP.write_text(wanted)


def inputs(pythons: Sequence[Interpreter]) -> str:
    program = [path for name, path in files(ROOT / "edge") if "__pycache__" not in name]
    all_files = [*program, *sorted(BUILD.glob("*.py")), RUNTIME_LOCK, ROOT / "LICENSE"]
    names = [str(file.relative_to(ROOT)) for file in all_files]
    made_by = [f"{each.path} {each.version} {each.magic}" for each in pythons]
    return json.dumps({"files": names, "digest": environments.digest(*all_files), "pythons": made_by})


def make(target: Path, pythons: Sequence[Interpreter]) -> None:
    with progress(f"building {target.name} for Python {', '.join(each.version for each in pythons)}"):
        libraries = stage_libraries()
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "program"
            shutil.copytree(ROOT / "edge", program / "edge", ignore=shutil.ignore_patterns("__pycache__"))
            content = {"LICENSE": (ROOT / "LICENSE").read_bytes(), "__main__.py": entry(pythons)}
            content |= sources(libraries) | sources(program)
            for python in pythons:
                compiled = libraries.with_name(f"compiled-{python.version}")
                if not compiled.exists():
                    half_done = libraries.with_name(f"compiling-{os.getpid()}")
                    compile_tree(python, libraries, half_done)
                    half_done.rename(compiled)
                content |= tree(python.tag, libraries, compiled)
                compile_tree(python, program, Path(folder) / python.tag)
                content |= tree(python.tag, program, Path(folder) / python.tag)
        write(target, content)
    line(f"{target} has {target.stat().st_size / 1e6:.1f} MB in {len(content)} files")
    lacking = [f"3.{n}" for n in machine.MINORS if f"cpython-3{n}" not in {each.tag for each in pythons}]
    if lacking:
        line(
            f"not found in PATH: Python {', '.join(lacking)}; with these it starts from sources, which takes longer"
        )


def stage_libraries() -> Path:
    """The unpacked wheels of the lock, without what an archive has no use for; beside them, which wheels they are."""
    libraries = STAGE / environments.digest(RUNTIME_LOCK)[:16] / "libraries"
    wheels = libraries.with_name(WHEELS)
    if libraries.exists() and wheels.exists():
        return libraries
    python = environments.with_pip(VENV)
    with progress("fetching the libraries"):
        if STAGE.exists():
            shutil.rmtree(STAGE)  # those of other locks
        libraries.parent.mkdir(parents=True)
        fetched = libraries.with_name("fetched")
        # These tags admit pure-Python wheels only, and do not depend on the Python that runs pip.
        tags = [
            "--implementation=py",
            "--abi=none",
            "--platform=any",
            f"--python-version=3.{machine.MINORS[0]}",
        ]
        flags = [
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
            "--no-compile",
            f"--target={fetched}",
            f"--report={fetched.with_name('report.json')}",  # says which of the lock's files were taken
        ]
        environments.pip(python, "install", *tags, *flags, "-r", RUNTIME_LOCK)
        prune(fetched)
        report = fetched.with_name("report.json")
        wheels.write_text(json.dumps(wheels_of(json.loads(report.read_text()))))
        report.unlink()
        complete(fetched)
        fetched.rename(libraries)
    return libraries


def wheels_of(report: Any) -> dict[str, dict[str, str]]:
    """Of pip's report of an installation: each package's version, and its wheel's name and digest."""
    found = {}
    for item in report["install"]:
        wheel = item["download_info"]
        found[item["metadata"]["name"].lower()] = {
            "version": item["metadata"]["version"],
            "file": wheel["url"].rpartition("/")[2],
            "sha256": wheel["archive_info"]["hashes"]["sha256"],
        }
    return found


def prune(folder: Path) -> None:
    """Takes away what is not needed at run time, and refuses what is not pure Python."""
    for wheel in sorted(folder.glob("*.dist-info/WHEEL")):
        if "Root-Is-Purelib: true" not in wheel.read_text():
            raise Stop(f"{wheel.parent.name} is not pure Python; the archive has to run everywhere")
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder comes before the folder
        inside = path.relative_to(folder).parts
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.suffix in NATIVE:
            raise Stop(f"{'/'.join(inside)} is native code; the archive has to run everywhere")
        elif not is_wanted(inside):
            path.unlink()


def complete(folder: Path) -> None:
    """A folder of modules without `__init__.py` (ruamel) is no package to every Python's zip importer: gets one."""
    for path in sorted(folder.rglob("*.py")):
        for parent in path.relative_to(folder).parents[:-1]:
            (folder / parent / "__init__.py").touch()


def is_wanted(inside: tuple[str, ...]) -> bool:
    """Whether a file of an unpacked wheel belongs into the archive, by its place."""
    name = inside[-1]
    if inside[0].endswith(".dist-info"):
        return name == "METADATA" or bool(LICENCE.search("/".join(inside[1:])))
    if inside[0] == "bin" or name == "py.typed" or name.endswith(".pyi"):
        return False
    return not {"tests", "_tests", "__pycache__"} & set(inside[:-1])


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    """All files below a folder with their names in the archive, sorted."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return iter(sorted(found.items()))


def sources(folder: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files(folder)}


def tree(tag: str, folder: Path, compiled: Path) -> dict[str, bytes]:
    """The compiled modules of one minor, and the data files beside them, since packages look there."""
    content = {}
    for name, path in files(folder):
        if ".dist-info/" in name:
            continue
        if name.endswith(".py"):
            name, path = name + "c", compiled / (name + "c")
        content[f"{tag}/{name}"] = path.read_bytes()
    return content


def compile_tree(python: Interpreter, folder: Path, target: Path) -> None:
    env = {"PYTHONHASHSEED": "0", "PATH": os.defpath}
    run_quietly([python.path, "-S", "-s", "-B", BUILD / "compile_tree.py", folder, target], env=env)


def version() -> str:
    text = (ROOT / "edge" / "__init__.py").read_text()
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise Stop("edge/__init__.py has no __version__")
    return found[1]


def entry(pythons: Sequence[Interpreter]) -> bytes:
    """archive_main.py with the facts of this build."""
    magic_numbers = repr({each.tag: each.magic for each in pythons})
    text = (BUILD / "archive_main.py").read_text()
    return text.replace("@VERSION@", version()).replace('{"@TAG@": "@MAGIC@"}', magic_numbers).encode()


def write(target: Path, content: Mapping[str, bytes]) -> None:
    """The archive, in one step: whoever starts the old one meanwhile gets the old one whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    half_done = target.with_name(f"{target.name}.{os.getpid()}")
    with half_done.open("wb") as file:
        file.write(SHEBANG)
        with zipfile.ZipFile(file, "w") as archive:
            for name in sorted(content):
                info = zipfile.ZipInfo(name, FIXED_TIME)
                info.create_system = 3
                info.external_attr = 0o100644 << 16
                info.compress_type = METHOD
                archive.writestr(info, content[name], compresslevel=9)
    half_done.chmod(0o755)
    half_done.replace(target)
