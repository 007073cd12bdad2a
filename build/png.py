"""PNG pictures of flat pages, made smaller: few colours, so a palette does, and rows that repeat compress well.

Source: PNG (Third Edition), W3C: filters 0 to 4, colour types 2, 6 and 3, 8 bits.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS = 256


def reduced(picture: bytes) -> bytes:
    """The same picture with at most 256 colours: those that are used most, and for any other the nearest of them.

    Takes 8-bit RGB or RGBA without interlacing, as browsers write it; transparency is dropped.
    """
    width, height, pixels = decoded(picture)
    colours = [pixels[at : at + 3] for at in range(0, len(pixels), 3)]
    palette = [colour for colour, _ in Counter(colours).most_common(COLOURS)]
    index = {colour: number for number, colour in enumerate(palette)}
    for colour in set(colours) - index.keys():
        index[colour] = min(range(len(palette)), key=lambda number: distance(palette[number], colour))
    rows = b"".join(
        b"\0" + bytes(index[colour] for colour in colours[y * width : (y + 1) * width]) for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return SIGNATURE + b"".join(
        chunk(kind, data)
        for kind, data in (
            (b"IHDR", header),
            (b"PLTE", b"".join(palette)),
            (b"IDAT", zlib.compress(rows, 9)),
            (b"IEND", b""),
        )
    )


def distance(one: bytes, other: bytes) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(picture):
        (size,) = struct.unpack_from(">I", picture, at)
        yield picture[at + 4 : at + 8], picture[at + 8 : at + 8 + size]
        at += 12 + size


def decoded(picture: bytes) -> tuple[int, int, bytes]:
    """Width, height, and the pixels' bytes, three each."""
    parts = list(chunks(picture))
    width, height, depth, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", dict(parts)[b"IHDR"])
    if depth != 8 or colour_type not in (2, 6) or interlaced:
        raise ValueError("not an 8-bit RGB picture")
    step = 3 if colour_type == 2 else 4
    data = zlib.decompress(b"".join(content for kind, content in parts if kind == b"IDAT"))
    above = bytes(width * step)
    rows: list[bytes] = []
    for y in range(height):
        at = y * (width * step + 1)
        above = unfiltered(data[at], data[at + 1 : at + 1 + width * step], above, step)
        rows.append(above if step == 3 else b"".join(above[x : x + 3] for x in range(0, len(above), 4)))
    return width, height, b"".join(rows)


def unfiltered(kind: int, line: bytes, above: bytes, step: int) -> bytes:
    """A row as it was before its filter; `step` bytes are a pixel."""
    if kind == 0:
        return line
    if kind == 2:
        return bytes((a + b) & 255 for a, b in zip(line, above, strict=True))
    row = bytearray(line)
    for x in range(len(row)):
        left = row[x - step] if x >= step else 0
        corner = above[x - step] if x >= step else 0
        row[x] = (row[x] + predicted(kind, left, above[x], corner)) & 255
    return bytes(row)


def predicted(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 1:
        return left
    if kind == 3:
        return (left + up) // 2
    guess = left + up - corner  # Paeth
    return min((left, up, corner), key=lambda value: abs(guess - value))
