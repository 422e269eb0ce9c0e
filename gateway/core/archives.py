"""Proof that an archive is one, has a single reading, and holds what its name promises.

A ZIP can be read from the front, header by header, or from the directory at its end, and readers
that disagree see different files. So both are read, and they must tile the file: the first entry
begins at offset 0, each begins where the last one ended, with the same name, flags and method in
both places, the directory follows at once, and the end record is the last thing in the file.
Nothing can be hidden before, between or behind. A TAR has one chain of headers; it must be walked
without a gap to its end.

Entries are judged by what is declared (names, kinds, sizes); nothing is unpacked but the list of
content types of an Office document. An archive inside an archive is not opened. Encrypted
entries, links and devices are refused: nobody could say what they hold.

Source: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.4; POSIX.1-2017 pax, "ustar Interchange Format";
ECMA-376 part 2 ([Content_Types].xml).
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from xml.parsers import expat

from gateway.core.proof import XML_FAULTS, Disproved, Proof, Rule

ENTRIES_MAX = 10_000
UNPACKED_BYTES_MAX = 4_294_967_295
"""What an archive may declare to hold, in all."""
RATIO_MAX = 200
"""How many times its packed size an entry above `RATIO_FREE_BYTES` may declare."""
RATIO_FREE_BYTES = 10_485_760
CONTENT_TYPES_BYTES_MAX = 1_048_576

_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_DESCRIPTOR = 1 << 3
_UTF8 = 1 << 11
_BLOCK_BYTES = 512
_MAIN_TYPES = {
    Proof.OOXML_WORD: "wordprocessingml.document",
    Proof.OOXML_SHEET: "spreadsheetml.sheet",
    Proof.OOXML_SLIDES: "presentationml.presentation",
}


class SeekableBytes(Protocol):
    """A file's bytes, given from outside."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes from where it stands; fewer only at the end."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place and return it."""
        ...

    def tell(self) -> int:
        """Return where it stands."""
        ...


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """What the directory says of one entry. Sizes and offsets are in bytes."""

    name: bytes
    flags: int
    method: int
    crc: int
    packed_bytes: int
    unpacked_bytes: int
    offset: int
    mode: int


def prove_archive(proof: Proof, source: SeekableBytes, size_bytes: int) -> None:
    """Return if the archive is what `proof` asks for.

    Raises:
        Disproved: it is not, or it could be read in two ways.
    """
    match proof:
        case Proof.ZIP:
            zip_entries(source, size_bytes)
        case Proof.TAR:
            _prove_tar(source, size_bytes)
        case Proof.OOXML_WORD | Proof.OOXML_SHEET | Proof.OOXML_SLIDES:
            _prove_office(proof, source, zip_entries(source, size_bytes))
        case _:
            raise ValueError(f"`{proof}` is not an archive")


def zip_entries(source: SeekableBytes, size_bytes: int) -> list[ZipEntry]:
    """Return the entries of a ZIP in the order in which they lie, once they tile the file exactly.

    Raises:
        Disproved: they do not, or an entry is encrypted, a link, repeated or badly named.
    """
    if _read(source, 0, 4) != b"PK\x03\x04":
        raise Disproved("it does not begin as a ZIP does")
    entries = sorted(_directory(source, size_bytes), key=lambda entry: entry.offset)
    names: set[bytes] = set()
    end = 0
    for entry in entries:
        _judge_entry(entry)
        if entry.name in names:
            raise _unsafe("it lists a name twice")
        names.add(entry.name)
        end = _end_of_entry(source, entry, end)
    if end != _directory_offset(source, size_bytes):
        raise _unsafe("data lies hidden between its entries and its directory")
    if sum(entry.unpacked_bytes for entry in entries) > UNPACKED_BYTES_MAX:
        raise _unsafe(f"it unpacks to more than `{UNPACKED_BYTES_MAX}` bytes")
    return entries


def _directory_offset(source: SeekableBytes, size_bytes: int) -> int:
    return int(_end_record(source, size_bytes)[6])


def _end_record(source: SeekableBytes, size_bytes: int) -> tuple[int, ...]:
    """Return the end record's fields; it must be the file's last 22 bytes and the only one."""
    raw = _read(source, max(size_bytes - _END.size, 0), _END.size)
    if len(raw) < _END.size or not raw.startswith(b"PK\x05\x06") or raw[-2:] != b"\0\0":
        raise Disproved("it does not end as a ZIP without a comment does, or was cut off")
    fields: tuple[int, ...] = _END.unpack(raw)
    _, disk, start_disk, here, total, directory_bytes, offset, _ = fields
    if disk or start_disk or here != total:
        raise _unsafe("it is one volume of several")
    if offset + directory_bytes != size_bytes - _END.size:
        raise _unsafe("its directory is not where it says, or it is a ZIP64")
    return fields


def _directory(source: SeekableBytes, size_bytes: int) -> Iterator[ZipEntry]:
    fields = _end_record(source, size_bytes)
    count, end, at = fields[4], size_bytes - _END.size, fields[6]
    if not 1 <= count <= ENTRIES_MAX:
        raise _unsafe(f"it has no entry, or more than `{ENTRIES_MAX}`")
    for _ in range(count):
        raw = _read(source, at, _CENTRAL.size)
        if len(raw) < _CENTRAL.size or not raw.startswith(b"PK\x01\x02"):
            raise _unsafe("its directory is damaged")
        item = _CENTRAL.unpack(raw)
        name = _read(source, at + _CENTRAL.size, item[10])
        mode = item[15] >> 16 if item[1] >> 8 == 3 else 0
        yield ZipEntry(name, item[3], item[4], item[7], item[8], item[9], item[16], mode)
        at += _CENTRAL.size + item[10] + item[11] + item[12]
    if at != end:
        raise _unsafe("its directory lists another number of entries than it holds")


def _judge_entry(entry: ZipEntry) -> None:
    if entry.flags & _ENCRYPTED:
        raise _unsafe("it is encrypted, so that nobody can see what it holds")
    if entry.method not in {0, 8}:
        raise _unsafe("it is packed by another method than deflate")
    if stat.S_IFMT(entry.mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise _unsafe("it holds a link or a device")
    if entry.method == 0 and entry.packed_bytes != entry.unpacked_bytes:
        raise _unsafe("an entry that is not packed declares two sizes")
    allowed = max(entry.packed_bytes * RATIO_MAX, RATIO_FREE_BYTES)
    if entry.unpacked_bytes > allowed:
        raise _unsafe(f"an entry unpacks to more than `{RATIO_MAX}` times its size")
    _judge_member_name(entry.name, "utf-8" if entry.flags & _UTF8 else "cp437")


def _end_of_entry(source: SeekableBytes, entry: ZipEntry, begins: int) -> int:
    """Return where the entry's bytes end, given where they must begin."""
    raw = _read(source, entry.offset, _LOCAL.size)
    if entry.offset != begins or len(raw) < _LOCAL.size or not raw.startswith(b"PK\x03\x04"):
        raise _unsafe("data lies hidden between its entries")
    item = _LOCAL.unpack(raw)
    name = _read(source, begins + _LOCAL.size, item[9])
    if (name, item[2], item[3]) != (entry.name, entry.flags, entry.method):
        raise _unsafe("an entry and the directory disagree")
    has_descriptor = bool(entry.flags & _DESCRIPTOR)
    declared = (item[6], item[7], item[8])
    if not has_descriptor and declared != (entry.crc, entry.packed_bytes, entry.unpacked_bytes):
        raise _unsafe("an entry and the directory disagree about its size")
    end: int = begins + _LOCAL.size + item[9] + item[10] + entry.packed_bytes
    return end + _descriptor_bytes(source, entry, end) if has_descriptor else end


def _descriptor_bytes(source: SeekableBytes, entry: ZipEntry, at: int) -> int:
    """Return how long the record behind an entry is; it may have a mark and wide sizes."""
    raw = _read(source, at, 24)
    for wide in ("<LLL", "<LQQ"):
        body = struct.pack(wide, entry.crc, entry.packed_bytes, entry.unpacked_bytes)
        for record in (b"PK\x07\x08" + body, body):
            follower = raw[len(record) : len(record) + 2] or _read(source, at + len(record), 2)
            if raw.startswith(record) and follower == b"PK":
                return len(record)
    raise _unsafe("an entry and the directory disagree about its size")


def _prove_office(proof: Proof, source: SeekableBytes, entries: list[ZipEntry]) -> None:
    """Judge an Office document by its list of content types and the names of its parts."""
    types = [entry for entry in entries if entry.name == b"[Content_Types].xml"]
    if not types:
        raise Disproved("it is a ZIP, but not an Office document")
    names = {entry.name.lower() for entry in entries}
    declared = _content_types(_unpacked(source, types[0]))
    words = {word.lower() for word in declared}
    if any("macroenabled" in word or "vbaproject" in word for word in words) or any(
        b"vbaproject" in name for name in names
    ):
        raise Disproved("it holds macros; save it without them", Rule.MACROS_NOT_ALLOWED)
    main = f"application/vnd.openxmlformats-officedocument.{_MAIN_TYPES[proof]}.main+xml"
    if main not in words:
        raise Disproved("it is another kind of Office document than its name says")


def _content_types(text: bytes) -> list[str]:
    """Return every content type the list names."""
    found: list[str] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        found.append(attributes.get("ContentType", ""))

    def refuse(*_: object) -> None:
        raise Disproved("its list of content types declares a document type (DTD)")

    parser = expat.ParserCreate()
    parser.StartElementHandler = begin
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text, True)
    except XML_FAULTS as fault:
        raise Disproved("its list of content types is not well-formed XML") from fault
    return found


def _unpacked(source: SeekableBytes, entry: ZipEntry) -> bytes:
    """Return one small entry's content."""
    if max(entry.packed_bytes, entry.unpacked_bytes) > CONTENT_TYPES_BYTES_MAX:
        raise _unsafe("its list of content types is too long")
    local = _LOCAL.unpack(_read(source, entry.offset, _LOCAL.size))
    begins = entry.offset + _LOCAL.size + local[9] + local[10]
    packed = _read(source, begins, entry.packed_bytes)
    try:
        content = (
            zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, CONTENT_TYPES_BYTES_MAX + 1)
            if entry.method
            else packed
        )
    except zlib.error as fault:
        raise _unsafe("its list of content types cannot be unpacked") from fault
    if zlib.crc32(content) != entry.crc or len(content) != entry.unpacked_bytes:
        raise _unsafe("its list of content types is damaged")
    return content


def _prove_tar(source: SeekableBytes, size_bytes: int) -> None:
    """Walk the chain of headers to the two empty blocks that end it."""
    at, count, has_member = 0, 0, False
    while (head := _read(source, at, _BLOCK_BYTES)) != bytes(_BLOCK_BYTES):
        kind, packed_bytes, name = _tar_header(head, is_first=at == 0)
        content_at = at + _BLOCK_BYTES
        at = content_at + -(-packed_bytes // _BLOCK_BYTES) * _BLOCK_BYTES
        count += 1
        if at > size_bytes or count > ENTRIES_MAX:
            raise _unsafe(f"it is cut off, or holds more than `{ENTRIES_MAX}` entries")
        if kind in b"xg":
            _judge_pax(source, content_at, packed_bytes)
        elif kind == b"L":
            _judge_member_name(_read(source, content_at, min(packed_bytes, 4_096)).rstrip(b"\0"))
        elif kind not in b"\x0005":
            raise _unsafe("it holds a link, a device or an unknown kind of entry")
        else:
            _judge_member_name(name)
            has_member = True
    if not has_member:
        raise _unsafe("it holds no file")
    _judge_padding(source, at, size_bytes)


def _tar_header(head: bytes, *, is_first: bool) -> tuple[bytes, int, bytes]:
    """Return an entry's kind, size in bytes and name."""
    if len(head) < _BLOCK_BYTES or head[257:262] != b"ustar":
        if is_first:
            raise Disproved("it does not begin as a TAR does")
        raise _unsafe("its chain of headers breaks off")
    digits = (head[148:156], head[124:136])
    try:
        checksum, size_bytes = (int(field.strip(b"\0 ") or b"0", 8) for field in digits)
    except ValueError as fault:
        raise _unsafe("a header holds a number that is not octal") from fault
    if checksum != sum(head[:148]) + 8 * ord(" ") + sum(head[156:]) or size_bytes < 0:
        raise Disproved("a header's checksum is wrong")
    name = head[:100].partition(b"\0")[0]
    # The field is a prefix of the name in POSIX's ustar only; GNU keeps times in it.
    prefix = head[345:500].partition(b"\0")[0] if head[257:263] == b"ustar\0" else b""
    return head[156:157], size_bytes, prefix + b"/" + name if prefix else name


def _judge_pax(source: SeekableBytes, at: int, size_bytes: int) -> None:
    """Refuse extended headers that would move the next entry or rename it badly."""
    if size_bytes > CONTENT_TYPES_BYTES_MAX:
        raise _unsafe("an extended header is too long")
    text = _read(source, at, size_bytes)
    while text:
        digits, _, _ = text.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        key, equals, value = text[len(digits) + 1 : length - 1].partition(b"=")
        if not equals or text[length - 1 : length] != b"\n":
            raise _unsafe("an extended header is damaged")
        if key == b"size" or key.startswith(b"GNU.sparse"):
            raise _unsafe("an extended header overrides the size of an entry")
        if key in {b"path", b"linkpath"}:
            _judge_member_name(value)
        text = text[length:]


def _judge_padding(source: SeekableBytes, at: int, size_bytes: int) -> None:
    """The end is at least two empty blocks, and nothing but zeros follows."""
    if size_bytes - at < 2 * _BLOCK_BYTES:
        raise _unsafe("it is cut off before its end")
    for begins in range(at, size_bytes, 262_144):
        if _read(source, begins, 262_144).strip(b"\0"):
            raise Disproved("data follows the end of the TAR", Rule.TRAILING_DATA)


def _judge_member_name(raw: bytes, charset: str = "utf-8") -> None:
    """Refuse a member's name that leads out of the archive or has no single reading."""
    try:
        name = raw.decode(charset)
    except UnicodeDecodeError as fault:
        raise _unsafe("the name of an entry is not UTF-8") from fault
    parts = name.removesuffix("/").split("/")
    if any(c < " " or c == "\x7f" for c in name) or "\\" in name:
        raise _unsafe("the name of an entry has a control character or a backslash")
    if name[1:2] == ":" or ".." in parts or (parts[0] == "" and name != ""):
        raise _unsafe("the name of an entry leads out of the archive")
    if not name:
        raise _unsafe("an entry has no name")


def _read(source: SeekableBytes, at: int, size_bytes: int) -> bytes:
    source.seek(at)
    return source.read(size_bytes)


def _unsafe(reason: str) -> Disproved:
    return Disproved(reason, Rule.ARCHIVE_UNSAFE)
