"""`python3 -m edge`: the same as the command `mcp-edge`."""

from edge.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
