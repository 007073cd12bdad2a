"""An MCP server over stdio that does what it is told to, good or bad. Run as a child; standard library only.

Switches are words on the command line:
  banner          prints lines that are no JSON before anything else
  noise           prints a line that is no JSON before each answer
  exit=N          exits with status N at once, with a line on stderr
  exit-once=PATH  the same with status 3, unless PATH exists; makes it
  mute            reads, and never answers
  mute=METHOD     never answers this method
  deaf            answers initialize and the lists, then reads nothing any more
  slow=S          waits S seconds before each answer
  ignore-term     ignores SIGTERM and the end of its stdin
  grandchild      leaves a `sleep` in its process group, which holds its stderr open
  escaped         leaves a `sleep` in a session of its own
  daemon          leaves a `sleep` that has left its session and environment behind, and whose parent has ended
  cycle           lists without end: the cursor comes again
  endless         lists without end: always a new cursor
  pages=N         tools in N pages
  invalid         one of its tools has no inputSchema
  no-lists        declares no capabilities
  refuse          answers initialize with an error
  version=V       negotiates this version
  stderr=TEXT     writes TEXT to stderr at start
  leak=NAME       writes the value of this environment variable to stderr at start, in several forms
Tools: echo, sleep, big, progress, log, exit, kill, flood, noise, change, ask, env, cancelled, pids, line20.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import quote

SWITCHES = dict(word.partition("=")[::2] for word in sys.argv[1:])
TOOLS = [
    "echo", "sleep", "big", "progress", "log", "exit", "kill", "flood", "noise", "change", "ask", "env",
    "cancelled", "pids", "line20",
]  # fmt: skip
out_lock = threading.Lock()
running: dict[str, threading.Event] = {}
cancelled: list[str] = []
children: list[int] = []
asked: dict[str, dict[str, object]] = {}


def put(text: str) -> None:
    with out_lock:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def send(message: dict[str, object]) -> None:
    put(json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")))


def answer(request_id: object, result: object) -> None:
    if "slow" in SWITCHES:
        time.sleep(float(SWITCHES["slow"]))
    if "noise" in SWITCHES:
        put("just a line of text")
    send({"id": request_id, "result": result})


def text(value: str) -> dict[str, object]:
    return {"content": [{"type": "text", "text": value}]}


def tools_page(cursor: str | None) -> dict[str, object]:
    tools: list[dict[str, object]] = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
    if "invalid" in SWITCHES:
        tools.insert(1, {"name": "broken"})
    if "cycle" in SWITCHES:
        return {"tools": tools, "nextCursor": "again"}
    if "endless" in SWITCHES:
        number = int(cursor or 0) + 1
        tools = [{"name": f"tool{number}", "inputSchema": {"type": "object"}}]
        return {"tools": tools, "nextCursor": str(number)}
    if "pages" in SWITCHES:
        pages, page = int(SWITCHES["pages"]), int(cursor or 0)
        result: dict[str, object] = {"tools": tools[page::pages]}
        if page + 1 < pages:
            result["nextCursor"] = str(page + 1)
        return result
    return {"tools": tools}


def start_child(own_session: bool) -> None:
    child = subprocess.Popen(
        ["sleep", "300"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=own_session
    )
    children.append(child.pid)


def start_daemon() -> None:
    script = "sleep 300 </dev/null >/dev/null 2>&1 & echo $!"
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={}, stdout=subprocess.PIPE, start_new_session=True, check=True
    )
    children.append(int(done.stdout))


def call(request_id: object, params: dict[str, object]) -> None:
    arguments = params.get("arguments") or {}
    assert isinstance(arguments, dict)
    meta = params.get("_meta") or {}
    assert isinstance(meta, dict)
    match params["name"]:
        case "echo":
            answer(request_id, text(str(arguments.get("text", ""))))
        case "sleep":
            event = running[str(request_id)] = threading.Event()
            if "progressToken" in meta:
                values = {"progressToken": meta["progressToken"], "progress": 0}
                send({"method": "notifications/progress", "params": values})

            until = arguments.get("until")  # a file that appears

            def later() -> None:
                give_up = time.monotonic() + float(arguments["s"])
                while (left_s := give_up - time.monotonic()) > 0 and not (until and os.path.exists(until)):
                    if event.wait(min(left_s, 1.0) if until else left_s):
                        return
                answer(request_id, text("slept"))

            threading.Thread(target=later, daemon=True).start()
        case "big":
            answer(request_id, text("x" * int(arguments["bytes"])))
        case "line20":
            put("y" * 20_000_000)
            answer(request_id, text("after the line"))
        case "progress":
            for step in range(int(arguments["n"])):
                if "progressToken" in meta:
                    values = {"progressToken": meta["progressToken"], "progress": step}
                    send({"method": "notifications/progress", "params": values})
            answer(request_id, text("done"))
        case "log":
            send(
                {
                    "method": "notifications/message",
                    "params": {"level": "info", "data": arguments.get("data")},
                }
            )
            answer(request_id, text("logged"))
        case "exit":
            print("last words", file=sys.stderr, flush=True)
            os._exit(int(arguments.get("status", 0)))
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "flood":
            for _ in range(int(arguments["n"])):
                send({"method": "notifications/flood", "params": {"fill": "z" * 100}})
            answer(request_id, text("flooded"))
        case "noise":
            for number in range(int(arguments["n"])):
                put(f"noise {number}")
            answer(request_id, text("noisy"))
        case "change":
            TOOLS.append(f"new{len(TOOLS)}")
            for _ in range(5):
                send({"method": "notifications/tools/list_changed"})
            answer(request_id, text("changed"))
        case "ask":
            question = {"method": arguments["method"], "params": arguments.get("params") or {}}
            send({"id": "my-question", **question})
            asked["my-question"] = {"id": request_id}
        case "env":
            answer(request_id, text(json.dumps(dict(os.environ))))
        case "cancelled":
            answer(request_id, text(json.dumps(cancelled)))
        case "pids":
            answer(request_id, text(json.dumps([os.getpid(), *children])))
        case name:
            send(
                {
                    "id": request_id,
                    "error": {"code": -32602, "message": f"no tool {name}", "data": {"n": 1.0}},
                }
            )


def handle(message: dict[str, object]) -> None:
    method, request_id = message.get("method"), message.get("id")
    params = message.get("params") or {}
    assert isinstance(params, dict)
    if method is None:
        waiting = asked.pop(str(request_id), None)
        if waiting is not None:
            answer(waiting["id"], text(json.dumps(message)))
        return
    if "mute" in SWITCHES and SWITCHES["mute"] in ("", method):
        return
    match method:
        case "initialize" if "refuse" in SWITCHES:
            send({"id": request_id, "error": {"code": -32000, "message": "not today"}})
        case "initialize":
            lists = {} if "no-lists" in SWITCHES else {
                "tools": {"listChanged": True}, "prompts": {}, "logging": {}, "resources": {"subscribe": True},
            }  # fmt: skip
            answer(request_id, {
                "protocolVersion": SWITCHES.get("version", "2025-11-25"),
                "capabilities": lists,
                "serverInfo": {"name": "toy", "version": "1"},
            })  # fmt: skip
        case "tools/list":
            answer(request_id, tools_page(params.get("cursor")))
        case "prompts/list":
            answer(request_id, {"prompts": [{"name": "hello"}]})
        case "resources/list":
            answer(request_id, {"resources": [{"uri": "toy://one", "name": "one"}]})
        case "resources/templates/list":
            answer(request_id, {"resourceTemplates": [{"uriTemplate": "toy://{x}", "name": "any"}]})
            if "deaf" in SWITCHES:
                time.sleep(300)
        case "resources/subscribe":
            answer(request_id, {})
            send({"method": "notifications/resources/updated", "params": {"uri": params["uri"]}})
        case "ping" | "resources/unsubscribe" | "logging/setLevel":
            answer(request_id, {})
        case "tools/call":
            call(request_id, params)
        case "notifications/cancelled":
            cancelled.append(str(params["requestId"]))
            if event := running.pop(str(params["requestId"]), None):
                event.set()
        case _ if request_id is not None:
            send({"id": request_id, "error": {"code": -32601, "message": "method not found"}})


def main() -> None:
    if "stderr" in SWITCHES:
        print(SWITCHES["stderr"], file=sys.stderr, flush=True)
    if "leak" in SWITCHES:
        value = os.environ[SWITCHES["leak"]]
        basic = base64.b64encode(f"user:{value}".encode()).decode()
        for shown in (
            value,
            f"http://h/?t={quote(value, safe='')}",
            f"Basic {basic}",
            repr({"token": value}),
        ):
            print("leaking", shown, file=sys.stderr, flush=True)
    if "exit-once" in SWITCHES and not os.path.exists(SWITCHES["exit-once"]):
        open(SWITCHES["exit-once"], "w").close()
        SWITCHES["exit"] = "3"
    if "exit" in SWITCHES:
        print("cannot find my configuration", file=sys.stderr, flush=True)
        sys.exit(int(SWITCHES["exit"]))
    if "ignore-term" in SWITCHES:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "grandchild" in SWITCHES:
        start_child(own_session=False)
    if "escaped" in SWITCHES:
        start_child(own_session=True)
    if "daemon" in SWITCHES:
        start_daemon()
    if "banner" in SWITCHES:
        put("Toy server 1.0\n{ not json\n\n[1]")
    for line in sys.stdin:
        handle(json.loads(line))
    if "ignore-term" in SWITCHES:
        time.sleep(300)


if __name__ == "__main__":
    main()
