from hypothesis import given
from hypothesis import strategies as st

from edge.proto.framing import LineDecoder, Oversized

LIMIT = 6
lines_of_bytes = st.lists(
    st.binary(max_size=LIMIT + 3).map(lambda line: line.replace(b"\n", b"\r")), max_size=8
)


def expected(lines: list[bytes]) -> list[bytes | Oversized]:
    found: list[bytes | Oversized] = []
    for line in lines:
        if len(line) > LIMIT:
            found.append(Oversized(len(line)))
        elif line.removesuffix(b"\r"):
            found.append(line.removesuffix(b"\r"))
    return found


@given(
    lines_of_bytes, st.binary(max_size=9).filter(lambda rest: b"\n" not in rest), st.lists(st.integers(0, 9))
)
def test_any_chunking_gives_the_same_lines(lines: list[bytes], rest: bytes, cuts: list[int]) -> None:
    wire = b"".join(line + b"\n" for line in lines) + rest
    decoder, got = LineDecoder(LIMIT), []
    for cut in [*cuts, len(wire)]:
        got += decoder.feed(wire[:cut])
        wire = wire[cut:]
    assert got == expected(lines)
