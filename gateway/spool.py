"""The spool: where an upload waits while it is judged.

An upload is written here as it comes in, judged, and sent on from here, so that the bytes that
were judged are the bytes that leave: they are hashed on the way in and again on the way out, and
the last chunk is handed out only if both agree. A small file stays in memory; a larger one goes
to a file without a name, which the system frees when the process ends, however it ends. Where the
file system knows no nameless files, the name exists for the blink between creation and unlinking;
`Spool.sweep` removes what a crash in that blink left.

All open files together never hold more than the quota, in memory or on disk: a flood of uploads
is answered with an error instead of a full disk. Everything is synchronous and meant for one
thread at a time; a write is at most as long as the chunk the network gave.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

MEMORY_BYTES_MAX = 1_048_576
"""Up to here a file stays in memory."""
CHUNK_BYTES = 262_144
"""How much `SpoolFile.reader` hands out at once."""

_PREFIX = "aoaigw-upload-"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SpoolFault(Exception):
    """The spool cannot keep or give back a file; nothing of it may be sent."""


class SpoolFull(SpoolFault):
    """The quota is used up, or the disk is."""


class SpoolChanged(SpoolFault):
    """What was read back is not what was written."""


class Spool:
    """A directory with a quota. `quota_bytes` holds for all open files together.

    Nobody who is named when a file is opened may hold more than half of it, so that one team's
    uploads leave room for the others'. It should be twice the largest file, or more.
    """

    def __init__(self, directory: Path, quota_bytes: int) -> None:
        self._directory = directory
        self._quota_bytes = quota_bytes
        self._used_bytes = 0
        self._used_by: Counter[str] = Counter()

    @property
    def used_bytes(self) -> int:
        """How much the open files hold."""
        return self._used_bytes

    def sweep(self) -> int:
        """Make the directory, remove what dead processes left in it, and return how many files.

        Call it once, before the first file is opened: what bears this process's own number was left
        by an earlier process of the same number. Links, folders and files of other users are never
        ours, whatever they are called.

        Raises:
            SpoolFault: the directory cannot be made or read.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.scandir(self._directory) as entries:
                left = [each.path for each in entries if _is_ours(each)]
            for path in left:
                Path(path).unlink(missing_ok=True)
        except OSError as fault:
            raise SpoolFault(f"the spool directory cannot be used: {fault.strerror}") from fault
        return len(left)

    def open(self, owner: str | None = None) -> SpoolFile:
        """Return a new, empty file of `owner`'s; close it whatever happens."""
        return SpoolFile(self, owner)

    def _take(self, size_bytes: int, owner: str | None) -> None:
        limits = [(self._used_bytes, self._quota_bytes)]
        if owner is not None:
            limits.append((self._used_by[owner], self._quota_bytes // 2))
        for used, limit in limits:
            if used + size_bytes > limit:
                raise SpoolFull(
                    f"uploads in progress hold `{used}` bytes of `{limit}`, "
                    f"`{size_bytes}` more do not fit"
                )
        self._add(size_bytes, owner)

    def _add(self, size_bytes: int, owner: str | None) -> None:
        self._used_bytes += size_bytes
        if owner is not None:
            self._used_by[owner] += size_bytes
            if not self._used_by[owner]:
                del self._used_by[owner]

    def _create(self) -> BinaryIO:
        """Return a file on disk that no other process can open."""
        prefix = f"{_PREFIX}{os.getpid()}-"
        return tempfile.TemporaryFile(buffering=0, prefix=prefix, dir=self._directory)


class SpoolFile:
    """One upload. It is written, then read any number of times, then closed."""

    def __init__(self, spool: Spool, owner: str | None = None) -> None:
        self._spool = spool
        self._owner = owner
        self._file: BinaryIO = io.BytesIO()
        self._is_on_disk = False
        self._size_bytes = 0
        self._hash = hashlib.sha256()

    @property
    def size_bytes(self) -> int:
        """How much was written."""
        return self._size_bytes

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was written, in lower-case hexadecimal."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append `chunk`, all of it.

        Raises:
            SpoolFull: the quota or the disk is full.
            SpoolFault: the disk failed. After either the file is only good for closing.
        """
        self._spool._take(len(chunk), self._owner)
        self._size_bytes += len(chunk)
        self._hash.update(chunk)
        try:
            if not self._is_on_disk and self._size_bytes > MEMORY_BYTES_MAX:
                self._move_to_disk()
            _write_all(self._file, chunk)
        except OSError as fault:
            kind = SpoolFull if fault.errno in _FULL else SpoolFault
            raise kind(f"the spool cannot be written: {fault.strerror}") from fault

    def reader(self) -> Iterator[bytes]:
        """Yield the content in chunks of `CHUNK_BYTES`; several readers do not disturb each other.

        Raises:
            SpoolChanged: the content is not what was written. The last chunk is then held back, so
                that a body of declared length never becomes complete.
        """
        view, check = self.seekable(), hashlib.sha256()
        left = self._size_bytes
        while left:
            chunk = view.read(min(CHUNK_BYTES, left))
            check.update(chunk)
            left -= len(chunk)
            if not chunk or (not left and check.digest() != self._hash.digest()):
                raise SpoolChanged("a spooled file is not what was written to it")
            yield chunk

    def seekable(self) -> SpoolView:
        """Return a read-only view with a place of its own."""
        return SpoolView(self)

    def close(self) -> None:
        """Free the content and its share of the quota; closing twice is harmless."""
        if self._file.closed:
            return
        self._spool._add(-self._size_bytes, self._owner)
        # What the disk still has to say about bytes that nobody wants any more is of no interest.
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _move_to_disk(self) -> None:
        memory, disk = self._file, self._spool._create()
        self._file, self._is_on_disk = disk, True
        memory.seek(0)
        while chunk := memory.read(CHUNK_BYTES):
            _write_all(disk, chunk)
        memory.close()

    def _read_at(self, offset: int, size_bytes: int) -> bytes:
        if self._file.closed:
            raise SpoolFault("the spooled file is closed")
        try:
            if self._is_on_disk:
                return os.pread(self._file.fileno(), size_bytes, offset)
            self._file.seek(offset)
            return self._file.read(size_bytes)
        except OSError as fault:
            raise SpoolFault(f"the spool cannot be read: {fault.strerror}") from fault
        finally:
            # A file in memory has one place for readers and writer; the writer's is the end.
            if not self._is_on_disk:
                self._file.seek(0, io.SEEK_END)


class SpoolView:
    """Reads a spooled file like any other file; it sees what was written so far."""

    def __init__(self, file: SpoolFile) -> None:
        self._file = file
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, all that is left if it is negative; fewer only at the end.

        Raises:
            SpoolFault: the file is closed, or the disk failed.
        """
        left = max(self._file.size_bytes - self._at, 0)
        wanted = left if size < 0 else min(size, left)
        pieces: list[bytes] = []
        while wanted and (piece := self._file._read_at(self._at, wanted)):
            pieces.append(piece)
            self._at += len(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place, counted as `io` does, and return it.

        Raises:
            ValueError: the place lies before the first byte.
        """
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size_bytes}[whence]
        if base + offset < 0:
            raise ValueError("the place lies before the first byte")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return where it stands."""
        return self._at


def _write_all(file: BinaryIO, chunk: bytes) -> None:
    """Write every byte; an unbuffered file may take fewer than it is given."""
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of the directory is a file that a dead process of ours left."""
    if not _is_abandoned(entry.name):
        return False
    try:
        is_file = entry.is_file(follow_symlinks=False)
        return is_file and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    except FileNotFoundError:  # Somebody else swept it away.
        return False


def _is_abandoned(name: str) -> bool:
    """Whether a name in the directory is ours and its process is gone."""
    number = name.removeprefix(_PREFIX).partition("-")[0]
    if not name.startswith(_PREFIX) or not number.isdecimal():
        return False
    if int(number) == os.getpid():
        return True
    with suppress(PermissionError):
        try:
            os.kill(int(number), 0)
        except (ProcessLookupError, OverflowError):
            return True
    return False
