"""Secrets taken out of whatever we write: log, health, terminal.

Each secret is looked for in every form in which it may be written. Of a form, the pieces of a few letters in the
window at its end lead to it in a table. The pieces of a text are looked up at such distances that one of them lies
in the window, wherever the form stands: so a text without secrets costs a look-up for every seventh letter (more only
where there are short secrets), however many secrets there are, and another secret costs only its own entries.
The window is at the end because beginnings are alike: of tokens with a header, of URLs.

What was cut before it got here ends in `…` (printable.cut). A beginning of a form right before that sign is a secret,
too, if it has SHORTEST_SECRET letters. Such beginnings are looked for in all forms in order, by halving.

Secrets change, so they are not kept for ever: of each source the last few generations are.
"""

import base64
import html
import itertools
import json
import re
import urllib.parse
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from edge.printable import CUT, quoted

SHORTEST_SECRET = 4  # a shorter value is in half of all lines; redacting it would only blur them
SHORTEST_BASE64 = 6  # of a shorter one too little is left to be sure
SHORTEST_LINE = 12  # of a secret of several lines: a key's, not the brace or word that a line may also be
LONGEST_MIXED = 4096  # of a longer one the forms that are written within another form are not looked for
GENERATIONS = 8  # of one source: what is in use, and what may still be on its way out
MAX_SOURCES = 1024
LONGEST_CUT = 1024  # a text that was cut before it got here shows no more of a secret
MOST_CUTS = 16  # in one text; the last ones are looked at
LONGEST_OVERLAP = 16_384  # of texts in pieces: a form that is longer may be shown in parts
EXCERPT_ROOM = 16  # times its length is looked at for an excerpt, as secrets in it become shorter
URL_SAFE = str.maketrans("+/", "-_")
SAME_EVERYWHERE = re.compile(r"[A-Za-z0-9_.~-]+")  # in a URL, in JSON, in HTML
HIDDEN = "***"


class Redactor:
    """Removes the values of secrets from any text, also as they look in a URL, in JSON, HTML or Base64.

    `longest` is that of the longest form that is looked for, in characters, at most LONGEST_OVERLAP.
    May be asked by other threads while it is told more.
    """

    def __init__(self) -> None:
        self._generations: dict[str, list[frozenset[str]]] = {}  # by source; both oldest first
        self._forms: dict[str, frozenset[str]] = {}  # of each value
        self._holders: Counter[str] = Counter()  # generations that have a value
        self._uses: Counter[str] = Counter()  # values that have a form
        self._tables = (
            Table(12, 6),
            Table(8, 5),
            Table(4, 4),
        )  # a form goes to the first that it is long enough for
        self._version = 0  # of the forms that there are
        self._beginnings = Beginnings(0, ())
        self.longest = 0

    def redact(self, values: Iterable[str], source: str = "config") -> None:
        """From now on these are hidden, too: all that `source` has. Values under four characters are not: see above.

        Of what this source had before, the last generations stay hidden, GENERATIONS with this one. What it has
        again is the newest again.
        """
        new = frozenset(itertools.chain.from_iterable(map(hidden_with, values)))
        kept = self._generations.pop(source, [])
        self._generations[source] = kept  # the one that is told last
        if new in kept:
            kept.remove(new)
            kept.append(new)
            return
        kept.append(new)
        gone = [kept.pop(0)] if len(kept) > GENERATIONS else []
        if len(self._generations) > MAX_SOURCES:
            gone += self._generations.pop(next(iter(self._generations)))
        for value in new:
            if not self._holders[value]:
                self._add(value)
            self._holders[value] += 1
        for value in itertools.chain.from_iterable(gone):
            self._holders[value] -= 1
            if not self._holders[value]:
                self._remove(value)
        self.longest = min(max(map(len, self._uses), default=0), LONGEST_OVERLAP)

    def clean(self, text: str) -> str:
        """The text with `***` for each secret in it."""
        spans = self._spans(text)
        if not spans:
            return text
        pieces: list[str] = []
        done = 0
        for begin, end in spans:
            pieces += (text[done:begin], HIDDEN)
            done = end
        return "".join((*pieces, text[done:]))

    def excerpt(self, text: str, at_most: int) -> str:
        """The beginning of the text without secrets, which are taken out before it is cut: no part of one is left.

        `…` stands for what was left out. Of a very long text only the beginning is looked at.
        """
        whole = at_most * EXCERPT_ROOM + self.longest
        window = text if len(text) <= whole else text[: self.boundary(text[:whole], whole - self.longest)]
        cleaned = self.clean(window)
        if len(cleaned) > at_most:
            return cleaned[:at_most] + CUT
        return cleaned if window is text else cleaned + CUT

    def boundary(self, text: str, at: int) -> int:
        """Where a text can be cut, near `at`, so that no secret is cut. After `at` it should have `longest` more."""
        for begin, end in self._spans(text):
            if begin < at < end:
                return begin or end
        return at

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Where secrets are, in order; those that overlap are one."""
        found = [span for table in self._tables for span in table.spans(text)]
        if CUT in text and self._uses:
            found += self._cut_spans(text)
        if len(found) < 2:
            return found
        found.sort()
        merged = [found[0]]
        for begin, end in found[1:]:
            last_begin, last_end = merged[-1]
            if begin < last_end:
                merged[-1] = (last_begin, max(end, last_end))
            else:
                merged.append((begin, end))
        return merged

    def _cut_spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where a secret begins that is cut off by `…`."""
        version = self._version
        if self._beginnings.version != version:
            self._beginnings = Beginnings(version, list(self._uses))
        end = len(text)
        for _ in range(MOST_CUTS):
            end = text.rfind(CUT, 0, end)
            if end < 0:
                return
            begin = self._beginnings.before(text, end)
            if begin is not None:
                yield begin, end

    def _add(self, value: str) -> None:
        forms = self._forms[value] = frozenset(forms_of(value))
        for form in forms:
            if not self._uses[form]:
                self._table_of(form).add(form)
            self._uses[form] += 1
        self._version += 1

    def _remove(self, value: str) -> None:
        del self._holders[value]
        for form in self._forms.pop(value):
            self._uses[form] -= 1
            if not self._uses[form]:
                del self._uses[form]
                self._table_of(form).remove(form)
        self._version += 1

    def _table_of(self, form: str) -> "Table":
        return next(table for table in self._tables if len(form) >= table.window)


class Table:
    """Forms of at least `window` characters, by each piece of `size` characters in the last `window` ones."""

    __slots__ = ("_by_piece", "_size", "_stride", "window")

    def __init__(self, window: int, size: int) -> None:
        self.window = window
        self._size = size
        self._stride = window - size + 1  # as many places there are for a piece in a window
        self._by_piece: dict[
            str, tuple[tuple[str, int], ...]
        ] = {}  # each form, and what of it is before the piece

    def add(self, form: str) -> None:
        for piece, before in self._pieces(form):
            self._by_piece[piece] = (*self._by_piece.get(piece, ()), (form, before))

    def remove(self, form: str) -> None:
        for piece, before in self._pieces(form):
            rest = tuple(entry for entry in self._by_piece[piece] if entry != (form, before))
            if rest:
                self._by_piece[piece] = rest
            else:
                del self._by_piece[piece]

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where these forms are in a text, in no order."""
        by_piece, size = self._by_piece, self._size
        if not by_piece:
            return
        places = range(0, len(text) - size + 1, self._stride)
        for at in [at for at in places if text[at : at + size] in by_piece]:
            for form, before in by_piece.get(text[at : at + size], ()):
                begin = at - before
                if begin >= 0 and text.startswith(form, begin):
                    yield begin, begin + len(form)

    def _pieces(self, form: str) -> Iterator[tuple[str, int]]:
        first = len(form) - self.window
        for before in range(first, first + self._stride):
            yield form[before : before + self._size], before


class Beginnings:
    """Of all forms that there were at one time."""

    __slots__ = ("_forms", "_heads", "version")

    def __init__(self, version: int, forms: Collection[str]) -> None:
        self.version = version
        self._forms = sorted(forms)
        self._heads = {form[:SHORTEST_SECRET] for form in forms}

    def before(self, text: str, end: int) -> int | None:
        """Where the longest one begins that ends at `end`."""
        for begin in range(max(0, end - LONGEST_CUT), end - SHORTEST_SECRET + 1):
            if text[begin : begin + SHORTEST_SECRET] in self._heads:
                beginning = text[begin:end]
                place = bisect_left(self._forms, beginning)
                if place < len(self._forms) and self._forms[place].startswith(beginning):
                    return begin
        return None


def hidden_with(value: str) -> Iterator[str]:
    """What to hide for a secret: itself, what it is in a URL, and its lines, which programs print one by one."""
    for text in (value, urllib.parse.unquote(value)):
        if len(text) >= SHORTEST_SECRET:
            yield text
    lines = value.splitlines()
    if len(lines) > 1:
        yield from (line for line in map(str.strip, lines) if len(line) >= SHORTEST_LINE)


def forms_of(value: str) -> set[str]:
    once = written_forms(value)
    forms = {value, *once, *base64_forms(value)}
    if len(value) <= LONGEST_MIXED:
        forms.update(*map(written_forms, once))  # JSON in a repr, and the like
    return forms


def written_forms(value: str) -> set[str]:
    """How a value looks in a URL or a form, in JSON, in HTML, and in a Python repr."""
    if SAME_EVERYWHERE.fullmatch(value):
        return {value}
    escapes = {
        urllib.parse.quote(value, safe=""),
        urllib.parse.quote(value),
        urllib.parse.quote_plus(value),
    }
    return {
        *escapes,
        *(re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), text) for text in escapes),
        quoted(value)[1:-1],
        json.dumps(value)[1:-1],
        html.escape(value),
        repr(value)[1:-1],
    }


def base64_forms(value: str) -> set[str]:
    """How a value looks inside of something that is Base64 (as `user:password` in an Authorization field): three ways,
    by where it begins. The letters that its neighbours have a share in are left out."""
    raw = value.encode(errors="surrogatepass")
    forms: set[str] = set()
    for before in range(3):
        encode = base64.b64encode(b"\0" * before + raw).decode()
        first, last = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
        for text in (encode[first:last], encode[first:last].translate(URL_SAFE)):
            if len(text) >= SHORTEST_BASE64:
                forms.add(text)
    return forms
