"""The one door: `python3 build run | test | pyz | deb | bench | pictures | dashboard | lock`.

Needs nothing but the standard library.

Only this file has to be readable for Pythons older than ours, so that they can be told what is wrong.
"""

import sys

USAGE = """usage: python3 build COMMAND [ARGUMENTS]

  run [ARGS]     build dist/mcp-edge.pyz and start it: mcp-edge run ARGS
  test [ARGS]    everything that has to be green; with ARGS only pytest, with these arguments (--help);
                 some ten minutes more the first time, for what it downloads into .peers
  pyz            build dist/mcp-edge.pyz (--out FILE: there, even if nothing has changed)
  deb            build dist/mcp-edge_VERSION_all.deb from it (--out FOLDER: there)
  bench [ARGS]   the benchmark, next to other gateways
  pictures       pictures of the status page, taken in a real browser, into packaging/pictures
  dashboard      a picture of what the Grafana dashboard shows, from a real run, likewise
  lock           write the lock files anew, with the newest versions that fit
"""


def main():  # type: ignore[no-untyped-def]  # annotations here would be one more thing for an old Python to trip over
    if sys.version_info < (3, 11):  # noqa: UP036  telling them is what this is for
        found = "%d.%d.%d" % sys.version_info[:3]  # noqa: UP031  as above
        sys.stderr.write("build: needs Python 3.11 or newer; %s is %s\n" % (sys.executable, found))  # noqa: UP031
        return 1
    import commands

    return commands.main(sys.argv[1:], USAGE)


if __name__ == "__main__":
    sys.exit(main())
