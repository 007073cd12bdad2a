"""mcp-edge: the MCP servers of a box behind one guarded endpoint."""

__version__ = "0.1.0"
