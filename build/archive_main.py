"""The entry of mcp-edge.pyz; build/pyz.py fills in the version and the magic numbers.

The compiled tree of the running Python goes first on `sys.path`, if its magic number is the one it was
compiled for; every other Python takes the sources. `version` is answered before anything is imported. The
syntax is kept such that a Python too old for us can read it and say so.
"""

import sys

VERSION = "@VERSION@"
MAGIC_NUMBERS = {"@TAG@": "@MAGIC@"}


def main():  # type: ignore[no-untyped-def]  # read by old Pythons too
    if sys.version_info < (3, 11):  # noqa: UP036  telling them is what this is for
        found = "%d.%d" % sys.version_info[:2]  # noqa: UP031  as above
        sys.stderr.write("mcp-edge needs Python 3.11 or newer; " + sys.executable + " is " + found + "\n")
        return 1
    if sys.argv[1:] in (["version"], ["--version"]):
        sys.stdout.write("mcp-edge " + VERSION + "\n")
        return 0
    # Where importlib.util has it from; unlike importlib.util it is always there.
    magic_number = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
    tag = sys.implementation.cache_tag
    if MAGIC_NUMBERS.get(tag) == magic_number.hex():
        sys.path.insert(0, sys.path[0] + "/" + tag)
    import edge.cli.main

    return edge.cli.main.main()


if __name__ == "__main__":
    sys.exit(main())
