"""Compiles a tree of sources to a tree of `mod.pyc` files, for the interpreter that runs this.

Started by `pyz.py` once per Python minor: `python3.N -S -B compile_tree.py SOURCES TARGET`. Unchecked-hash
files carry no time stamp and are not compared with their source at import. The name of the file that
tracebacks show is the place in the archive. A fixed hash seed keeps the order of sets, and so the bytes.
"""

import py_compile
import sys
from pathlib import Path

sources, target = map(Path, sys.argv[1:])
for source in sorted(sources.rglob("*.py")):
    name = source.relative_to(sources)
    py_compile.compile(
        str(source),
        cfile=str(target / name.with_suffix(".pyc")),
        dfile=f"mcp-edge.pyz/{name.as_posix()}",
        doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
