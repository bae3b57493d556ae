"""What only a real kernel shows: locks between processes, refused O_DIRECT, file size limits, page cache, errors."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import mmap
import os
import pathlib
import resource
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from filestore.errors import DirectoryInUse, DiskFull, StorageFailed
from filestore.hal import ALIGNMENT, COUNTERS, DirectIO, File, RealFileSystem, libc, open_filesystem
from filestore.hal import direct as direct_io

PAGE = ALIGNMENT


def child(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a Python script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_lock_names_the_process_that_holds_it(tmp_path: pathlib.Path) -> None:
    lock = open_filesystem(str(tmp_path)).lock()
    script = """
        import sys
        from filestore.errors import DirectoryInUse
        from filestore.hal import open_filesystem
        try:
            open_filesystem(sys.argv[1]).lock()
        except DirectoryInUse as error:
            print(error.sqlstate, error)
        else:
            print("taken")
    """
    assert child(script, str(tmp_path)).stdout == f"55006 directory {tmp_path} is in use by process {os.getpid()}\n"
    lock.release()
    assert child(script, str(tmp_path)).stdout == "taken\n"
    open_filesystem(str(tmp_path)).lock().release()  # the child is gone, and its lock with it


def test_a_lock_is_taken_on_a_full_disk(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """The note of who holds it is for humans: the lock is the flock."""
    (tmp_path / "LOCK").symlink_to("/dev/full")
    filesystem = open_filesystem(str(tmp_path))
    lock = filesystem.lock()
    assert "ENOSPC" in caplog.text
    lock.release()


def test_many_runs_are_written_while_the_interpreter_ends(tmp_path: pathlib.Path) -> None:
    """A store that its program forgot to close takes its last checkpoint then, when pools start nothing any more."""
    program = textwrap.dedent("""
        import atexit, sys
        import numpy as np
        from filestore.hal import open_filesystem
        file = open_filesystem(sys.argv[1]).open("pages", create=True)

        @atexit.register
        def late():
            file.write_many([(i * 8192, np.full(4096, i + 1, np.uint8)) for i in range(20)])
            file.sync()
    """)
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    found = (tmp_path / "pages").read_bytes()
    assert [found[i * 8192] for i in range(20)] == list(range(1, 21))


def test_lock_falls_with_a_killed_process(tmp_path: pathlib.Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import sys, time\nfrom filestore.hal import open_filesystem\n"
                "lock = open_filesystem(sys.argv[1]).lock()\nprint('held', flush=True)\ntime.sleep(60)"
            ),
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DirectoryInUse, match=f"process {holder.pid}"):
            open_filesystem(str(tmp_path)).lock()
        holder.kill()
        holder.wait(timeout=10)
    open_filesystem(str(tmp_path)).lock().release()


def test_required_direct_io_fails_loudly_where_it_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real_open = os.open

    def refusing_open(path: str, flags: int, mode: int = 0o777, **more: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real_open(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", refusing_open)
    with pytest.raises(StorageFailed, match="direct I/O is required, but refused"):
        open_filesystem(str(tmp_path), direct=DirectIO.REQUIRED)
    with caplog.at_level(logging.INFO, logger="filestore.hal"):
        filesystem = open_filesystem(str(tmp_path), direct=DirectIO.OPTIONAL)
    assert not filesystem.direct
    assert "Invalid argument" in filesystem.describe()
    assert "direct I/O is not available" in caplog.text
    filesystem.open("a", create=True).close()


def test_mode_is_logged_and_leaves_nothing_behind(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="filestore.hal"):
        filesystem = open_filesystem(str(tmp_path / "new"))
    assert filesystem.describe() in caplog.text
    assert filesystem.list() == []
    assert "buffered" in open_filesystem(str(tmp_path / "new"), direct=DirectIO.DISABLED).describe()
    with pytest.raises(StorageFailed):
        open_filesystem(str(tmp_path / "missing" / "deeper"))


def test_statx_names_an_alignment_that_ours_satisfies(tmp_path: pathlib.Path) -> None:
    fd = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    try:
        told = libc.dio_alignment(fd)
    finally:
        os.close(fd)
    if told is None or told[1] == 0:
        pytest.skip("this kernel or filesystem does not tell")
    assert PAGE % told[0] == 0 and PAGE % told[1] == 0


def test_direct_writes_do_not_stay_in_the_page_cache(tmp_path: pathlib.Path) -> None:
    filesystem = open_filesystem(str(tmp_path))
    if not filesystem.direct:
        pytest.skip(f"no direct I/O here: {filesystem.refusal}")
    opened = COUNTERS.direct_opens
    file = filesystem.open("a", create=True)
    assert COUNTERS.direct_opens == opened + 1
    file.write_at(0, np.ones(64 * PAGE, dtype=np.uint8))
    file.sync()
    with open(tmp_path / "a", "rb") as plain, mmap.mmap(plain.fileno(), 0, prot=mmap.PROT_READ) as window:
        assert window[5] == 1


def limited(action: str, root: pathlib.Path) -> list[str]:
    """Runs `action` on a file where no file may exceed 8 pages; returns what it prints."""
    script = f"""
        import resource, sys
        import numpy as np
        from filestore.errors import DiskFull, StorageFailed
        from filestore.hal import open_filesystem
        file = open_filesystem(sys.argv[1]).open("a", create=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 * {PAGE}, 8 * {PAGE}))
        def attempt(call):
            try:
                call()
            except (DiskFull, StorageFailed) as error:
                print(type(error).__name__, error)
            else:
                print("ok")
        def write(place, pages):
            return lambda: file.write_at(place * {PAGE}, np.ones(pages * {PAGE}, dtype=np.uint8))
        {action}
    """
    return child(script, str(root)).stdout.splitlines()


def test_file_size_limit_is_a_clean_disk_full(tmp_path: pathlib.Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 8 * PAGE
    answers = limited(
        "attempt(write(0, 8)); attempt(write(8, 1)); attempt(lambda: file.allocate(9 * 4096)); attempt(write(0, 2));"
        " attempt(file.sync)",
        tmp_path,
    )
    assert [answer.split()[0] for answer in answers] == ["ok", "DiskFull", "DiskFull", "ok", "ok"]
    assert "offset 32768" in answers[1]


def test_write_cut_by_the_limit_poisons(tmp_path: pathlib.Path) -> None:
    answers = limited("attempt(write(6, 4)); attempt(write(0, 1)); attempt(file.sync)", tmp_path)
    assert [answer.split()[0] for answer in answers] == ["StorageFailed"] * 3
    assert "short write" in answers[0] or "EFBIG" in answers[0]


@pytest.mark.parametrize("mode", [DirectIO.OPTIONAL, DirectIO.DISABLED])
def test_kernel_errors_become_typed_errors(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, mode: DirectIO
) -> None:
    filesystem = open_filesystem(str(tmp_path), direct=mode)
    data = np.ones(2 * PAGE, dtype=np.uint8)

    def fresh(name: str) -> File:
        file = filesystem.open(name, create=True)
        file.write_at(0, data)
        return file

    def failing(number: int) -> Callable[..., int]:
        def call(*_: object) -> int:
            raise OSError(number, os.strerror(number))

        return call

    for name, number, expected in (
        ("a", errno.EIO, StorageFailed),
        ("b", errno.ENOSPC, DiskFull),
        ("c", errno.EDQUOT, DiskFull),
    ):
        file = fresh(name)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", failing(number))
            with pytest.raises(expected, match=f"to {name} at offset 4096"):
                file.write_at(PAGE, data)
        if expected is StorageFailed:
            with pytest.raises(StorageFailed, match="earlier"):
                file.sync()
        else:
            file.sync()
        file.close()
    file = fresh("d")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing(errno.EIO))
        with pytest.raises(StorageFailed, match="cannot sync file d"):
            file.sync()
    with pytest.raises(StorageFailed, match="earlier"):
        file.sync()
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", failing(errno.EIO))
        with pytest.raises(StorageFailed, match="of file d at offset 4096"):
            file.read_at(PAGE, 10)
    file.close()


@pytest.mark.parametrize("mode", [DirectIO.OPTIONAL, DirectIO.DISABLED])
def test_short_transfers(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, mode: DirectIO) -> None:
    """A short write goes on in the page cache, and is a failure with O_DIRECT; a short read goes on in both."""
    filesystem = open_filesystem(str(tmp_path), direct=mode)
    file = filesystem.open("a", create=True)
    data = np.random.default_rng(3).integers(0, 256, 6 * PAGE, dtype=np.uint8)
    real_write, real_read = os.pwritev, os.preadv

    def short_write(fd: int, buffers: list[memoryview], offset: int) -> int:
        return real_write(fd, [buffers[0][:PAGE]], offset)

    def short_read(fd: int, buffers: list[memoryview], offset: int) -> int:
        return real_read(fd, [buffers[0][:PAGE]], offset)

    file.write_at(0, data)
    monkeypatch.setattr(os, "preadv", short_read)
    assert np.array_equal(file.read_at(0, data.size), data)
    monkeypatch.setattr(os, "pwritev", short_write)
    if filesystem.direct:
        with pytest.raises(StorageFailed, match="short write: 4096 of 24576 bytes"):
            file.write_at(0, data)
    else:
        file.write_many([(0, data[: 3 * PAGE]), (3 * PAGE, data[3 * PAGE :])])
        assert np.array_equal(file.read_at(0, data.size), data)
    file.close()


def test_eagain_is_retried_with_a_bound(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_filesystem(str(tmp_path)).open("a", create=True)
    calls = 0
    real_write = os.pwritev

    def busy(fd: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls <= patience:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return real_write(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", busy)
    patience = direct_io.AGAIN_MAX
    file.write_at(0, np.ones(PAGE, dtype=np.uint8))
    assert calls == patience + 1
    calls, patience = 0, 1000
    with pytest.raises(StorageFailed, match="EAGAIN"):
        file.write_at(0, np.ones(PAGE, dtype=np.uint8))
    assert calls == direct_io.AGAIN_MAX + 1


def test_transfers_above_the_kernel_cap_are_cut(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cap at 2 pages, so that no gigabytes are moved."""
    monkeypatch.setattr(direct_io, "TRANSFER_MAX", 2 * PAGE)
    monkeypatch.setattr(direct_io, "PARTS_MAX", 3)
    file = open_filesystem(str(tmp_path)).open("a", create=True)
    parts = [np.full(pages * PAGE, pages, dtype=np.uint8) for pages in (5, 1, 1, 3)]
    writes, offset = [], 0
    for part in parts:
        writes.append((offset, part))
        offset += part.size
    file.write_many(writes)
    assert np.array_equal(file.read_at(0, offset), np.concatenate(parts))


def test_failed_directory_sync_is_final(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = open_filesystem(str(tmp_path))

    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(StorageFailed):
            filesystem.sync_dir()
    with pytest.raises(StorageFailed, match="failed earlier"):
        filesystem.sync_dir()


def test_maps_need_no_descriptor_and_go_with_their_last_view(tmp_path: pathlib.Path) -> None:
    filesystem = open_filesystem(str(tmp_path))
    with filesystem_file(filesystem, "a") as file:
        file.write_at(0, np.full(4 * PAGE, 5, dtype=np.uint8))
        file.sync()
        views = [file.map_read(0, 4 * PAGE)[PAGE:] for _ in range(20)]
    assert len(maps_of(tmp_path / "a")) >= 1
    assert not [link for link in descriptors() if link.startswith(str(tmp_path))]
    assert all(int(view.sum()) == 5 * 3 * PAGE for view in views)
    with pytest.raises(ValueError):
        views[0].flags.writeable = True
    last = views[3][:1].view(np.int8)
    views.clear()
    gc.collect()
    assert len(maps_of(tmp_path / "a")) == 1
    assert last[0] == 5
    del last
    gc.collect()
    assert not maps_of(tmp_path / "a")


def test_a_dropped_handle_leaks_no_descriptor(tmp_path: pathlib.Path) -> None:
    filesystem = open_filesystem(str(tmp_path))
    file = filesystem.open("a", create=True)
    assert [link for link in descriptors() if link == str(tmp_path / "a")]
    del file
    gc.collect()
    assert not [link for link in descriptors() if link == str(tmp_path / "a")]


def test_concurrent_syncs_see_one_failure(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel reports a write-back error once: only one thread may learn of success, and only before it."""
    file = open_filesystem(str(tmp_path)).open("a", create=True)
    file.write_at(0, np.ones(PAGE, dtype=np.uint8))
    calls = []

    def first_fails(_: int) -> None:
        calls.append(1)
        time.sleep(0.02)
        if len(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", first_fails)
    with ThreadPoolExecutor(8) as pool:
        tasks = [pool.submit(file.sync) for _ in range(8)]
    assert all(isinstance(task.exception(), StorageFailed) for task in tasks)
    assert len(calls) == 1


def filesystem_file(filesystem: RealFileSystem, path: str) -> contextlib.closing[File]:
    return contextlib.closing(filesystem.open(path, create=True))


def maps_of(path: pathlib.Path) -> list[str]:
    """This process's maps of a file."""
    return [line for line in pathlib.Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]


def descriptors() -> list[str]:
    """What this process's descriptors point to."""
    found = []
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.append(os.readlink(f"/proc/self/fd/{entry}"))
    return found
