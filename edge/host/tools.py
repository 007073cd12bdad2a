"""The tools of the `host` server: what each is called, takes and gives, and the function behind it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.host.disks import disks, disks_text
from edge.host.facts import Facts
from edge.host.machine import memory, memory_text, overview, overview_text
from edge.host.network import network, network_text
from edge.host.processes import DEFAULT_LIMIT, MAX_LIMIT, processes, processes_text
from edge.host.units import failed_units, failed_units_text

Schema = dict[str, Any]


class BadArguments(Exception):
    """Arguments that the tool's schema does not allow; the text is for whoever made the call."""


def an_object(properties: Schema, *, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def a_list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def said(kind: str, description: str) -> Schema:
    return {"type": kind, "description": description}


TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SHARE: Schema = said("number", "percent")
SPANS = an_object({"avg10": SHARE, "avg60": SHARE, "avg300": SHARE})
PRESSURE = an_object({"some": SPANS, "full": SPANS}, optional=("some", "full"))


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `facts` is called with the root of the file system and the arguments."""

    name: str
    title: str
    description: str
    facts: Callable[..., Facts]
    text: Callable[[Facts], str]
    output: Schema
    arguments: Schema = field(default_factory=dict)

    def listed(self) -> dict[str, Any]:
        """As `tools/list` gives it."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": {"type": "object", "properties": self.arguments, "additionalProperties": False},
            "outputSchema": self.output,
            "annotations": {
                "title": self.title, "readOnlyHint": True, "destructiveHint": False,
                "idempotentHint": True, "openWorldHint": False,
            },
        }  # fmt: skip

    def call(self, root: Path, arguments: Mapping[str, Any]) -> Facts:
        """Raises: BadArguments; NotHere if this system does not have what is asked for."""
        for name, value in arguments.items():
            self._check(name, value)
        return self.facts(root, **arguments)

    def _check(self, name: str, value: Any) -> None:
        schema = self.arguments.get(name)
        if schema is None:
            known = ", ".join(self.arguments) or "none"
            raise BadArguments(f"there is no argument {name}; there is: {known}")
        if "enum" in schema and value not in schema["enum"]:
            raise BadArguments(f"{name} must be one of {', '.join(schema['enum'])}")
        if schema["type"] == "integer" and not (
            type(value) is int and schema["minimum"] <= value <= schema["maximum"]
        ):
            raise BadArguments(
                f"{name} must be a whole number from {schema['minimum']} to {schema['maximum']}"
            )


TOOLS: dict[str, Tool] = {tool.name: tool for tool in (
    Tool(
        "overview", "System overview",
        "What this machine is and how busy it is: host name, operating system, kernel, uptime, load, CPUs.",
        overview, overview_text,
        an_object(
            {
                "hostname": TEXT, "os": TEXT, "kernel": TEXT, "architecture": TEXT,
                "cpus": said("integer", "CPUs that may be used"),
                "load": a_list(said("number", "tasks running or waiting, mean over 1, 5 and 15 minutes")),
                "time": said("string", "the machine's clock, UTC"),
                "uptime_seconds": {"type": "number"}, "cpu_pressure": PRESSURE,
            },
            optional=("uptime_seconds", "cpu_pressure"),
        ),
    ),
    Tool(
        "memory", "Memory",
        "Memory and swap: total, in use, available; and how much tasks have waited for memory lately.",
        memory, memory_text,
        an_object(
            {
                "total_bytes": COUNT, "used_bytes": COUNT, "used_percent": SHARE,
                "available_bytes": said("integer", "can be used without swapping"),
                "free_bytes": COUNT, "buffers_bytes": COUNT, "cached_bytes": COUNT,
                "swap_total_bytes": COUNT, "swap_used_bytes": COUNT, "pressure": PRESSURE,
            },
            optional=("free_bytes", "buffers_bytes", "cached_bytes", "swap_total_bytes", "swap_used_bytes", "pressure"),
        ),
    ),
    Tool(
        "disks", "Disks",
        "Mounted file systems: size, in use, available, inodes. Network file systems are listed without figures.",
        disks, disks_text,
        an_object({"disks": a_list(an_object(
            {
                "mount": TEXT, "device": TEXT, "type": TEXT, "read_only": {"type": "boolean"},
                "total_bytes": COUNT, "used_bytes": COUNT, "available_bytes": COUNT, "used_percent": SHARE,
                "inodes": COUNT, "inodes_used": COUNT, "note": TEXT,
            },
            optional=("total_bytes", "used_bytes", "available_bytes", "used_percent", "inodes", "inodes_used", "note"),
        ))}),
    ),
    Tool(
        "network", "Network",
        "Network interfaces with their addresses and state, default routes, name servers.",
        network, network_text,
        an_object(
            {
                "interfaces": a_list(an_object(
                    {"name": TEXT, "addresses": a_list(TEXT), "state": TEXT, "mtu": COUNT}, optional=("state", "mtu")
                )),
                "default_routes": a_list(an_object({"interface": TEXT, "gateway": TEXT})),
                "name_servers": a_list(TEXT), "search": a_list(TEXT), "note": TEXT,
            },
            optional=("note",),
        ),
    ),
    Tool(
        "failed_units", "Failed systemd units",
        "systemd units (services, timers, mounts) that have failed. Says so if the machine does not use systemd.",
        failed_units, failed_units_text,
        an_object(
            {
                "systemd": {"type": "boolean"},
                "units": a_list(an_object(
                    {"unit": TEXT, "load": TEXT, "active": TEXT, "sub": TEXT, "description": TEXT}
                )),
                "note": TEXT,
            },
            optional=("note",),
        ),
    ),
    Tool(
        "processes", "Top processes",
        "The processes that use most memory or CPU: name, user, memory, CPU. Never command lines or environments.",
        processes, processes_text,
        an_object({
            "count": said("integer", "processes that can be seen"), "sorted_by": TEXT,
            "processes": a_list(an_object({
                "pid": COUNT, "name": TEXT, "user": TEXT, "state": said("string", "as in ps: R, S, D, Z ..."),
                "rss_bytes": said("integer", "memory in use, shared pages included"),
                "cpu_percent": said("number", "percent of one CPU, measured just now"), "threads": COUNT,
            })),
        }),
        {
            "sort": {
                "type": "string", "enum": ["memory", "cpu"], "default": "memory", "description": "what comes first",
            },
            "limit": {
                "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT,
                "description": "how many",
            },
        },
    ),
)}  # fmt: skip
