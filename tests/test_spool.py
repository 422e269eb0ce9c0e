"""What was judged is what is sent, within the quota, and nothing is left behind."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.spool import (
    CHUNK_BYTES,
    MEMORY_BYTES_MAX,
    Spool,
    SpoolChanged,
    SpoolFault,
    SpoolFile,
    SpoolFull,
)

QUOTA_BYTES = 8 * MEMORY_BYTES_MAX
BLOCK = bytes(range(256)) * 1024


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", QUOTA_BYTES)
    spool.sweep()
    return spool


def open_files_in(directory: Path) -> int:
    """Count this process's open files that lie in a directory, named or not."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(os.readlink(link).startswith(str(directory)) for link in links)


def filled(spool: Spool, size_bytes: int) -> tuple[SpoolFile, bytes]:
    content = (BLOCK * (size_bytes // len(BLOCK) + 1))[:size_bytes]
    file = spool.open()
    for at in range(0, size_bytes, 100_000):
        file.write(content[at : at + 100_000])
    return file, content


SIZES = [0, 1, CHUNK_BYTES, MEMORY_BYTES_MAX, MEMORY_BYTES_MAX + 1, 3 * MEMORY_BYTES_MAX + 7]


@pytest.mark.parametrize("size_bytes", SIZES)
def test_what_was_written_is_read_back(spool: Spool, size_bytes: int) -> None:
    file, content = filled(spool, size_bytes)
    chunks = list(file.reader())
    assert b"".join(chunks) == content
    assert {len(chunk) for chunk in chunks[:-1]} <= {CHUNK_BYTES}
    assert b"".join(file.reader()) == content
    assert (file.size_bytes, file.sha256) == (size_bytes, hashlib.sha256(content).hexdigest())
    file.close()


def test_a_small_file_stays_in_memory_and_a_larger_one_goes_to_disk(
    spool: Spool, tmp_path: Path
) -> None:
    file, _ = filled(spool, MEMORY_BYTES_MAX)
    assert open_files_in(tmp_path) == 0
    file.write(b"x")
    assert open_files_in(tmp_path) == 1
    file.close()
    assert open_files_in(tmp_path) == 0


def test_a_file_on_disk_has_no_name(spool: Spool, tmp_path: Path) -> None:
    with filled(spool, 2 * MEMORY_BYTES_MAX)[0]:
        assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("size_bytes", [100, 2 * MEMORY_BYTES_MAX])
def test_a_view_reads_like_a_file(spool: Spool, size_bytes: int) -> None:
    file, content = filled(spool, size_bytes)
    view, other, plain = file.seekable(), file.seekable(), io.BytesIO(content)
    for offset, whence in ((-22, 2), (5, 0), (3, 1), (-4, 1), (10, 2), (0, 0)):
        assert view.seek(offset, whence) == plain.seek(offset, whence)
        assert view.read(10) == plain.read(10)
        assert view.tell() == plain.tell()
    assert view.read() == plain.read()
    assert (view.read(1), other.tell()) == (b"", 0)
    with pytest.raises(ValueError, match="first byte"):
        view.seek(-1)
    file.close()


@given(pieces=st.lists(st.binary(max_size=40), max_size=8), places=st.lists(st.integers(0, 99)))
def test_reading_does_not_disturb_writing(pieces: list[bytes], places: list[int]) -> None:
    with Spool(Path("unused"), QUOTA_BYTES).open() as file:
        view, content = file.seekable(), b""
        for piece in pieces:
            file.write(piece)
            content += piece
            for place in places:
                view.seek(place)
                assert view.read(7) == content[place : place + 7]
        assert b"".join(file.reader()) == content


@pytest.mark.parametrize("size_bytes", [10, 2 * MEMORY_BYTES_MAX + 1])
def test_a_changed_file_is_found_before_its_last_chunk_leaves(
    spool: Spool, size_bytes: int
) -> None:
    file, content = filled(spool, size_bytes)
    file._file.seek(0)
    file._file.write(b"!")
    sent: list[bytes] = []
    with pytest.raises(SpoolChanged):
        sent.extend(file.reader())
    assert sum(map(len, sent)) < len(content)
    file.close()


def test_a_file_that_became_shorter_is_found(spool: Spool) -> None:
    file, _ = filled(spool, 2 * MEMORY_BYTES_MAX)
    file._file.truncate(MEMORY_BYTES_MAX)
    with pytest.raises(SpoolChanged):
        list(file.reader())
    file.close()


def test_all_open_files_share_one_quota(spool: Spool) -> None:
    first, _ = filled(spool, QUOTA_BYTES - 10)
    second = spool.open()
    second.write(b"x" * 10)
    with pytest.raises(SpoolFull, match=r"`8388608` bytes of `8388608`, `1` more"):
        second.write(b"x")
    first.close()
    second.write(b"x")
    assert spool.used_bytes == 11
    second.close()
    assert spool.used_bytes == 0


def test_closing_frees_the_quota_once(spool: Spool) -> None:
    file, _ = filled(spool, 100)
    with file:
        assert spool.used_bytes == 100
    file.close()
    assert spool.used_bytes == 0


def test_a_closed_file_gives_nothing_more(spool: Spool) -> None:
    for size_bytes in (10, 2 * MEMORY_BYTES_MAX):
        file, _ = filled(spool, size_bytes)
        view = file.seekable()
        file.close()
        with pytest.raises(SpoolFault, match="closed"):
            view.read(1)


class FailingDisk(io.BytesIO):
    """A disk that takes a little and then fails."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code
        self.room = 300_000

    def write(self, chunk: Any) -> int:
        if not self.room:
            raise OSError(self.code, os.strerror(self.code))
        taken = min(len(chunk), self.room, 70_001)
        self.room -= taken
        return super().write(bytes(chunk[:taken]))


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.ENOSPC, SpoolFull), (errno.EDQUOT, SpoolFull), (errno.EIO, SpoolFault)],
)
def test_a_failing_disk_is_a_fault_of_the_spool(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[SpoolFault]
) -> None:
    monkeypatch.setattr(spool, "_create", lambda: FailingDisk(code))
    file, _ = filled(spool, MEMORY_BYTES_MAX)
    with pytest.raises(SpoolFault) as caught:
        file.write(b"x")
    assert type(caught.value) is kind
    file.close()
    assert spool.used_bytes == 0


def test_a_disk_that_takes_a_part_of_a_chunk_gets_the_rest(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FailingDisk(errno.ENOSPC)
    disk.room = QUOTA_BYTES
    monkeypatch.setattr(spool, "_create", lambda: disk)
    file, content = filled(spool, 2 * MEMORY_BYTES_MAX)
    assert disk.getvalue() == content
    file.close()


def test_a_disk_that_cannot_be_read_is_a_fault_of_the_spool(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(descriptor: int, size_bytes: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    file, _ = filled(spool, 2 * MEMORY_BYTES_MAX)
    monkeypatch.setattr(os, "pread", failing)
    with pytest.raises(SpoolFault, match="cannot be read"):
        file.seekable().read(1)
    file.close()


def test_a_spool_without_a_directory_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(SpoolFault, match="cannot be written"):
        filled(Spool(tmp_path / "absent", QUOTA_BYTES), MEMORY_BYTES_MAX + 1)
    (tmp_path / "file").touch()
    with pytest.raises(SpoolFault, match="cannot be used"):
        Spool(tmp_path / "file", QUOTA_BYTES).sweep()


def test_a_sweep_removes_what_dead_processes_left_and_nothing_else(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    abandoned = [f"aoaigw-upload-{int(dead.stdout)}-x1", f"aoaigw-upload-{os.getpid()}-x2"]
    abandoned.append("aoaigw-upload-99999999999999999999-x3")
    kept = [f"aoaigw-upload-{os.getppid()}-x4", "aoaigw-upload-x", "ledger.db", "aoaigw-upload-"]
    for name in abandoned + kept:
        (tmp_path / name).write_bytes(b"x")
    spool = Spool(tmp_path, QUOTA_BYTES)
    assert spool.sweep() == len(abandoned)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(kept)
    assert spool.sweep() == 0


def test_a_sweep_leaves_alone_what_only_bears_such_a_name(tmp_path: Path) -> None:
    target, mine = tmp_path / "kept", f"aoaigw-upload-{os.getpid()}"
    target.write_bytes(b"x")
    folder = tmp_path / "spool"
    (folder / f"{mine}-folder").mkdir(parents=True)
    (folder / f"{mine}-link").symlink_to(target)
    (folder / f"{mine}-nowhere").symlink_to(tmp_path / "absent")
    os.mkfifo(folder / f"{mine}-pipe")
    (folder / f"{mine}-own").write_bytes(b"x")
    assert Spool(folder, QUOTA_BYTES).sweep() == 1
    left = {each.name.removeprefix(f"{mine}-") for each in folder.iterdir()}
    assert left == {"folder", "link", "nowhere", "pipe"}
    assert target.read_bytes() == b"x"


def test_a_sweep_leaves_alone_what_another_user_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f"aoaigw-upload-{os.getpid()}-x"
    left.write_bytes(b"x")
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert Spool(tmp_path, QUOTA_BYTES).sweep() == 0
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    assert Spool(tmp_path, QUOTA_BYTES).sweep() == 1


def test_a_file_that_cannot_even_be_closed_well_frees_its_share(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stubborn(io.BytesIO):
        def close(self) -> None:
            super().close()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(spool, "_create", Stubborn)
    file, _ = filled(spool, 2 * MEMORY_BYTES_MAX)
    file.close()
    file.close()
    assert spool.used_bytes == 0


def test_the_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    Spool(tmp_path / "a" / "b", QUOTA_BYTES).sweep()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_one_owner_may_hold_half_of_the_quota_and_leaves_the_rest_to_the_others(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path / "spool", 100)
    spool.sweep()
    mine, more, yours = spool.open("mine"), spool.open("mine"), spool.open("yours")
    mine.write(b"x" * 30)
    more.write(b"x" * 20)
    with pytest.raises(SpoolFull, match="`50` bytes of `50`"):
        more.write(b"x")
    yours.write(b"x" * 50)
    mine.close()
    more.write(b"x" * 30)
    more.close()
    yours.close()
    assert spool.used_bytes == 0


OWNERS = ("blue", "red")
STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "write", "close"]), st.integers(0, 9), st.integers(0, 40)),
    max_size=60,
)


@given(STEPS)
def test_however_uploads_come_and_go_the_quota_holds_for_all_and_half_of_it_for_each(
    steps: list[tuple[str, int, int]],
) -> None:
    spool, files = Spool(Path("unused"), 100), list[tuple[str, SpoolFile, bytearray]]()
    for what, which, size_bytes in steps:
        if what == "open":
            owner = "blue" if which % 2 else "red"
            files.append((owner, spool.open(owner), bytearray()))
        elif files:
            owner, file, written = files[which % len(files)]
            if what == "close":
                file.close()
                files.remove((owner, file, written))
                continue
            used = {name: sum(len(w) for o, _, w in files if o == name) for name in OWNERS}
            fits = used[owner] + size_bytes <= 50 and sum(used.values()) + size_bytes <= 100
            if fits:
                file.write(b"x" * size_bytes)
                written += b"x" * size_bytes
            else:
                with pytest.raises(SpoolFull):
                    file.write(b"x" * size_bytes)
        assert spool.used_bytes == sum(len(written) for _, _, written in files)
        assert all(file.size_bytes == len(written) for _, file, written in files)
    for _, file, _ in files:
        file.close()
    assert spool.used_bytes == 0
