"""Pictures made smaller by `python3 build pictures`: what is seen in them stays."""

import struct
import zlib

import png
import pytest


def picture(rows: list[bytes], width: int, colour_type: int = 2) -> bytes:
    """Rows with their filter bytes, as a file."""
    header = struct.pack(">IIBBBBB", width, len(rows), 8, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(rows))
    parts = ((b"IHDR", header), (b"IDAT", data[:5]), (b"IDAT", data[5:]), (b"IEND", b""))
    return png.SIGNATURE + b"".join(png.chunk(kind, content) for kind, content in parts)


def pixels_of(reduced: bytes) -> list[bytes]:
    """The pixels of a picture with a palette."""
    parts = dict(png.chunks(reduced))
    width, height, depth, kind, *_ = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert (depth, kind) == (8, 3)
    rows = zlib.decompress(parts[b"IDAT"])
    palette = parts[b"PLTE"]
    numbers = [rows[y * (width + 1) + 1 + x] for y in range(height) for x in range(width)]
    return [palette[3 * number : 3 * number + 3] for number in numbers]


def test_every_filter_is_undone() -> None:
    # Two pixels a row, (1,2,3) and (11,22,33), as each of the filters writes them.
    one, two = bytes((1, 2, 3)), bytes((11, 22, 33))
    rows = [
        b"\0" + one + two,
        b"\1" + one + bytes((10, 20, 30)),
        b"\2" + bytes(6),
        b"\3" + bytes((1, 1, 2)) + bytes((5, 10, 15)),
        b"\4" + bytes(6),
    ]
    width, height, pixels = png.decoded(picture(rows, 2))
    assert (width, height) == (2, 5)
    assert [pixels[at : at + 6] for at in range(0, len(pixels), 6)] == [one + two] * 5


@pytest.mark.parametrize("colour_type", [2, 6])
def test_a_picture_of_few_colours_stays_as_it_is(colour_type: int) -> None:
    colours = [bytes((n, 255 - n, 7)) for n in range(200)]
    alpha = b"\xff" * (colour_type == 6)
    rows = [b"\0" + b"".join(colour + alpha for colour in colours)] * 3
    assert pixels_of(png.reduced(picture(rows, 200, colour_type))) == colours * 3


def test_of_many_colours_the_rare_ones_become_their_nearest() -> None:
    common = [bytes((n, n, n)) for n in range(256)]
    odd = [bytes((200, 200, 201)), *common[1:]]
    rows = [b"\0" + b"".join(colours) for colours in (common, common, odd)]
    assert pixels_of(png.reduced(picture(rows, 256)))[512] == bytes((200, 200, 200))


def test_what_is_no_such_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="8-bit RGB"):
        png.decoded(picture([b"\0\0"], 1, colour_type=0))
