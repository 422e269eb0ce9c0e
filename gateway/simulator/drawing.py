"""The pictures code interpreter draws: a real PNG of a curve, different for every name."""

import hashlib
import math
import struct
import zlib

WIDTH = 240
HEIGHT = 160
PAPER, GRID, CURVE = 0, 1, 2


def draw_png(name: str) -> bytes:
    """Return a PNG of 240 by 160 pixels; the same name draws the same picture."""
    seed = hashlib.sha256(name.encode()).digest()
    palette = bytes([255, 255, 255, 214, 219, 226]) + bytes(byte // 2 for byte in seed[:3])
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)
    pixels = b"".join(b"\0" + row for row in _rows(seed))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", palette),
            _chunk(b"IDAT", zlib.compress(pixels, 6)),
            _chunk(b"IEND", b""),
        ]
    )


def _rows(seed: bytes) -> list[bytearray]:
    rows = [bytearray(GRID if y % 40 == 0 else PAPER for _ in range(WIDTH)) for y in range(HEIGHT)]
    for y in range(HEIGHT):
        for x in range(0, WIDTH, 40):
            rows[y][x] = GRID
    waves = 1 + seed[3] % 4
    phase = seed[4] / 40
    for x in range(WIDTH):
        angle = 2 * math.pi * waves * x / WIDTH + phase
        height = math.sin(angle) * math.cos(angle * (1 + seed[5] % 3) / 2)
        middle = round(HEIGHT / 2 - height * HEIGHT * 0.42)
        for y in range(max(0, middle - 2), min(HEIGHT, middle + 3)):
            rows[y][x] = CURVE
    return rows


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check
