"""The manual's Markdown as man pages.

Only what the manual uses: headings, paragraphs, lists of `*`, indented blocks, tables, words in backticks or between
two asterisks. A row of a table becomes an entry: its first cell is the term, the others follow, each on a line and
with its column's head where there are several.
"""

import re
from collections.abc import Iterator, Sequence

CELLS = re.compile(r"(?<!\\)\|")


def page(name: str, section: int, what: str, body: str, *, version: str) -> str:
    """A whole page; `what` is its line in `apropos`, `body` roff from `converted` and its like."""
    head = f'.TH "{name.upper()}" "{section}" "" "mcp-edge {version}" "mcp-edge"'
    return f"{head}\n.nh\n.ad l\n.SH NAME\n{escaped(name)} \\- {escaped(what)}\n{body}"


def converted(markdown: str) -> str:
    """What follows a page's title."""
    lines = markdown.splitlines()
    lines = lines[1:] if lines[0].startswith("# ") else lines
    return "".join(f"{line}\n" for line in blocks(lines))


def blocks(lines: Sequence[str]) -> Iterator[str]:
    start = 0
    may_indent = True  # an indented line begins a block only after an empty one
    while start < len(lines):
        line = lines[start]
        end = start + 1
        if not line:
            pass
        elif line.startswith("#"):
            level, _, text = line.partition(" ")
            yield f"{'.SH' if level == '##' else '.SS'} {quoted(text)}"
        elif line.startswith("    ") and may_indent:
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end]):
                end += 1
            yield from verbatim([each[4:] for each in lines[start:end]])
        elif line.startswith("|"):
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            yield from table(lines[start:end])
        else:
            while end < len(lines) and lines[end] and not re.match(r"[#|]|\* ", lines[end]):
                end += 1
            is_entry = line.startswith("* ")
            yield ".IP \\(bu 3" if is_entry else ".PP"
            yield inline(" ".join(each.strip() for each in lines[start:end]).removeprefix("* "))
        may_indent = end < len(lines) and not lines[end - 1]
        start = end


def verbatim(lines: Sequence[str]) -> Iterator[str]:
    while lines and not lines[-1]:
        lines = lines[:-1]
    yield from (".PP", ".RS 4", ".nf")
    yield from (escaped(line) for line in lines)
    yield from (".fi", ".RE")


def table(lines: Sequence[str]) -> Iterator[str]:
    head, _, *rows = ([cell.strip() for cell in CELLS.split(line)[1:-1]] for line in lines)
    for term, *cells in rows:
        yield ".TP"
        yield inline(term) or "\\&"
        if len(cells) == 1:
            yield inline(cells[0]) or "\\&"
        else:
            named = [
                (f"\\fI{inline(name)}\\fR: " if name not in ("", "meaning") else "") + inline(cell)
                for name, cell in zip(head[1:], cells, strict=True)
                if cell
            ]
            yield "\n.br\n".join(named) or "\\&"


def inline(text: str) -> str:
    """One line of running text. A line must not look like a request."""
    parts = re.split(r"`([^`]*)`|\*\*(.+?)\*\*", text.replace("\\|", "|"))
    whole = ""
    for plain, code, strong in zip(parts[::3], [*parts[1::3], None], [*parts[2::3], None], strict=True):
        whole += escaped(plain) + (f"\\fB{escaped(code or strong or '')}\\fR" if code or strong else "")
    return f"\\&{whole}" if whole[:1] in (".", "'") else whole


def quoted(text: str) -> str:
    """A heading; its quotation marks would end the argument of the request."""
    return '"' + inline(text).replace('"', "\\(dq") + '"'


def escaped(text: str) -> str:
    """Text as it stands: no escape sequences, hyphens that can be pasted, nothing that begins a request."""
    safe = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    safe = safe.replace("^", "\\(ha").replace("~", "\\(ti")
    safe = "".join(char if ord(char) < 128 else f"\\[u{ord(char):04X}]" for char in safe)
    return f"\\&{safe}" if safe[:1] == "." else safe
