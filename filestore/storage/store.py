"""One directory: lock, manifest, pages, log and sealed files, tied together. What is above sees `Store` alone.

    LOCK  manifest  pages/pages.dat  pages/map.{n}  wal/{first LSN}.log  wal/spare.{n}  tables/{storage}/{segment}.seg

Life: `open` -> `recover` (iterate all groups and replay them) -> `finish_recovery` -> appends to `log`,
`checkpoint`s -> `close`.

Invariants:
- the manifest names everything that lives; whatever it does not name and the log does not attach is garbage;
- nothing that the live manifest names is ever overwritten or removed before a newer manifest is durable;
- the log holds every acknowledged group from `redo_lsn` on (RELIABILITY R23).

Thread rule: `checkpoint`, `write_sealed`, `open_sealed` and `verify` from any thread; arenas, recovery and `close`
on the engine's. It does not know tables: `metadata`, pages and groups are the caller's, see `docs/durability.md`
for the argument.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from filestore.errors import DataCorrupted, DiskFull, InternalError, ReadOnlyTransaction, StorageFailed
from filestore.hal import FileSystem, Lock, process
from filestore.storage import crash_points, verify
from filestore.storage import manifest as manifests
from filestore.storage.arena import Arena
from filestore.storage.layout import LOG_DIR, MANIFEST_FILE, MANIFEST_TEMP, PAGES_DIR, TABLES_DIR
from filestore.storage.log import BATCH_BYTES, Log
from filestore.storage.log_files import LogFiles, Random, list_log_files
from filestore.storage.log_open import open_full, open_log
from filestore.storage.log_reader import LogReader
from filestore.storage.log_record import LogGroup
from filestore.storage.log_runs import GroupRun
from filestore.storage.manifest import Manifest, SealedRef
from filestore.storage.page_store import PageImage, PageStore
from filestore.storage.segment_file import SealedContents, SealedFile, is_sealed_name, sealed_name, write_segment

__all__ = ["CheckpointImage", "PageImage", "Store", "StoreOptions", "sealed_name"]

LOG: Final = logging.getLogger("filestore.storage")
T = TypeVar("T")


@dataclass(frozen=True)
class StoreOptions:
    """log_file_bytes: a multiple of 4096. threaded: False flushes inline, for tests. random: source of salts, uuids."""

    log_file_bytes: int = 16 << 20
    batch_bytes: int = BATCH_BYTES
    threaded: bool = True
    random: Random = process.random_bytes


@dataclass(frozen=True)
class CheckpointImage:
    """What a checkpoint makes durable: the state right after every group below `redo_lsn`, which is a group boundary.

    Taken under the engine lock: `pages` are private copies of all pages changed since the last image.
    `live_arenas` and `sealed` are complete: what they do not name is forgotten, and its space reused.
    """

    metadata: dict[str, Any]
    redo_lsn: int
    pages: Sequence[PageImage] = ()
    live_arenas: set[str] = field(default_factory=set)
    sealed: set[str] = field(default_factory=set)


class Store:
    """An open directory; made by `Store.open`."""

    def __init__(self, fs: FileSystem, options: StoreOptions, lock: Lock, manifest: Manifest) -> None:
        self.fs = fs
        self.options = options
        self.uuid = manifest.uuid
        self._lock_file = lock
        self._manifest = manifest
        self._pages = PageStore(fs, manifest.uuid, manifest.page_map)
        self._arenas: dict[str, Arena] = {}
        self._dropped: set[str] = set()
        self._reader: LogReader | None = None
        self._log: Log | None = None
        self._failed: StorageFailed | None = None
        self._checkpointing = threading.RLock()
        self._sealing = threading.Lock()  # the three fields below
        self._sealed: dict[str, SealedRef] = dict(manifest.sealed)
        self._open_files: weakref.WeakValueDictionary[str, SealedFile] = weakref.WeakValueDictionary()
        self._discarded: set[str] = set()
        self._doomed: set[str] = set()  # to be removed after the next checkpoint's switch

    @classmethod
    def open(cls, fs: FileSystem, options: StoreOptions | None = None) -> Store:
        """Opens the directory, or initialises an empty one. Nothing but that is written: `finish_recovery` cleans up.

        Raises DirectoryInUse, IncompatibleFormat, DataCorrupted (manifest or page map), StorageFailed, DiskFull.
        """
        options = options or StoreOptions()
        lock = fs.lock()
        try:
            if not fs.exists(MANIFEST_FILE):
                _initialise(fs, options)
            manifest, damage = manifests.read(fs)
            for offset, problem in damage:
                LOG.warning("file %s at offset %d: %s; the other copy is good", MANIFEST_FILE, offset, problem)
            return cls(fs, options, lock, manifest)
        except BaseException:
            lock.release()
            raise

    # What the directory says

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's metadata as of the last checkpoint; {} when there was none."""
        return self._manifest.metadata

    @property
    def redo_lsn(self) -> int:
        """Where replay begins: groups below are in pages, metadata and sealed files."""
        return self._manifest.redo_lsn

    @property
    def manifest(self) -> Manifest:
        """The live manifest, a value."""
        return self._manifest

    @property
    def read_only(self) -> bool:
        """Whether a feature bit forbids writing: `recover` works, nothing else changes the directory."""
        return self._manifest.opens_read_only

    @property
    def failed(self) -> StorageFailed | None:
        """Why nothing can be written any more, None while all is well."""
        return self._failed or (self._log.failed if self._log is not None else None)

    @property
    def log(self) -> Log:
        """The open log. Errors before `finish_recovery` and in a read-only store."""
        if self._log is None:
            if self.read_only:
                raise ReadOnlyTransaction("the directory was written by a newer version and is open read-only")
            raise InternalError("the log is not open before recovery has finished")
        return self._log

    # Arenas

    def arena(self, name: str, nbytes: int) -> Arena:
        """The arena of that name: the open one, else with its pages from disk, each checked, else a fresh one.

        Raises DataCorrupted naming file and offset; ValueError when it has outgrown `nbytes` or was dropped.
        """
        found = self._arenas.get(name)
        if found is None:
            arena = Arena(name, nbytes)
            if name in self._dropped:
                raise ValueError(f"arena {name} was dropped: names are not used twice")
            if self._pages.used_pages(name):
                with self._checkpointing:
                    self._pages.load(arena)
            found = self._arenas[name] = arena
        elif found.data.size < nbytes:
            raise ValueError(f"arena {name} has {found.data.size} bytes, not {nbytes}")
        return found

    def renew_arena(self, name: str, nbytes: int) -> Arena:
        """An empty arena in the place of one whose pages on disk are damaged, and which the caller can make again.

        The caller marks every page that it uses dirty, so that the next checkpoint refers to none of the old ones.
        """
        found = self._arenas[name] = Arena(name, nbytes)
        return found

    def drop_arena(self, name: str) -> None:
        """Forgets an arena. Its pages go when a checkpoint without it is taken; its name is never used again."""
        self._arenas.pop(name, None)
        self._dropped.add(name)

    def arena_names(self) -> list[str]:
        """Arenas that are open or have pages on disk, dropped ones left out."""
        return sorted({*self._arenas, *self._pages.names()} - self._dropped)

    # Recovery

    def recover(self) -> Iterator[LogGroup]:
        """Committed groups from `redo_lsn` on, in commit order. Writes nothing. DataCorrupted: see `LogReader`."""
        yield from self._recovered(LogReader.__iter__)

    def recover_runs(self) -> Iterator[GroupRun]:
        """The same, many groups at a time."""
        yield from self._recovered(LogReader.runs)

    def _recovered(self, read: Callable[[LogReader], Iterator[T]]) -> Iterator[T]:
        reader = LogReader(self.fs, self.uuid, self.redo_lsn, epoch_floor=self._manifest.epoch)
        yield from read(reader)
        self._reader = reader
        crash_points.reach("recovery:read")

    def finish_recovery(self) -> None:
        """Begins a new epoch of the log, which rewrites its unproven tail; removes leftovers; opens for appends.

        `recover` or `recover_runs` must have been exhausted. A crash at any point leaves a directory that recovers to
        the same groups. Without room for a log file nothing is written, and the store is open for reading: `append`
        raises DiskFull, and so do checkpoints.
        """
        reader = self._reader
        if reader is None:
            raise InternalError("finish_recovery comes after recover has been exhausted")
        if self.read_only:
            return
        epoch = max(reader.epoch, self._manifest.epoch) + 1
        files = LogFiles(self.fs, self.uuid, self.options.log_file_bytes, self.options.random)
        files.adopt_spares()
        files.live = list(reader.headers)
        self._remove_old_logs(files)  # first, for a full disk: their space may be what the new file needs
        try:
            log = open_log(
                files, reader, epoch=epoch, batch_bytes=self.options.batch_bytes, threaded=self.options.threaded
            )
        except DiskFull as error:
            if not reader.headers:
                raise  # a new directory: there is nothing to read
            self._log = open_full(files, reader, error)
            LOG.warning("open for reading only: %s", error.message)
            self._reader = None
            return
        crash_points.reach("recovery:file_made")
        try:
            self._switch(self._manifest.next(epoch=epoch))
        except DiskFull as error:
            # The epoch in the manifest only guards against a lost log file; a full disk must still open.
            LOG.warning("cannot note the log's epoch: %s", error.message)
        crash_points.reach("recovery:epoch_switched")
        self._remove_leftovers()
        crash_points.reach("recovery:cleaned")
        self._log = log
        self._reader = None  # its buffers are as large as a log file
        log.trim(self.redo_lsn)  # after a checkpoint at close: the file before is the next opening's spare
        log.keep_spare()

    # Checkpoint

    def checkpoint(self, image: CheckpointImage) -> None:
        """Makes `image` the state that recovery begins from, then trims the log and removes what nothing names.

        Any thread; one at a time. DiskFull: the old state lives on, the pages of open arenas are dirty again, and a
        later checkpoint may be tried. StorageFailed: the store has failed for good. The steps are RELIABILITY R23's.
        """
        with self._checkpointing:
            log = self.log
            self._check()
            crash_points.reach("checkpoint:begun")
            try:
                log.check_room()
                log.when_durable(image.redo_lsn).result()
                crash_points.reach("checkpoint:log_durable")
                dropped = set(self._manifest.sealed)
                given_up = False
                try:
                    try:
                        self._write_and_switch(image)
                    except DiskFull:
                        # Only when the checkpoint is going to give back as much: the next opening wants the spare.
                        given_up = log.give_up_spare(image.redo_lsn, self._given_back(dropped - image.sealed))
                        if not given_up:
                            raise
                        self._write_and_switch(image)
                    log.trim(image.redo_lsn)
                    crash_points.reach("checkpoint:log_trimmed")
                    self._remove_sealed(dropped, image.sealed)
                    crash_points.reach("checkpoint:sealed_removed")
                except DiskFull:
                    if given_up:
                        log.keep_spare()
                    raise
                log.keep_spare()
            except DiskFull:
                self._mark_again(image)
                raise
            except StorageFailed as error:
                self._fail(error)
                raise

    # Sealed files

    def write_sealed(self, name: str, contents: SealedContents) -> SealedRef:
        """Writes a segment file, durable on return; it lives once a checkpoint or a log record names it.

        Any thread. Raises DiskFull (nothing is left), StorageFailed (final); ValueError for a name that lives.
        """
        directory = _table_directory(name)
        self._check()
        if name in self._manifest.sealed:
            raise ValueError(f"sealed file {name} lives: it is never written again")
        try:
            with self._sealing:
                if not self.fs.exists(directory):
                    self.fs.make_dir(directory)
                    self.fs.sync_dir(TABLES_DIR)
            reference = write_segment(self.fs, name, self.uuid, contents)
        except StorageFailed as error:
            self._fail(error)
            raise
        with self._sealing:
            self._sealed[name] = reference
            self._open_files.pop(name, None)
            self._doomed.discard(name)
            self._discarded.discard(name)
        return reference

    def open_sealed(self, name: str) -> SealedFile:
        """The sealed file of that name, the same object while anyone holds it. Raises DataCorrupted."""
        with self._sealing:
            found = self._open_files.get(name)
            if found is None:
                found = SealedFile(self.fs, name, self.uuid, self._sealed.get(name))
                self._open_files[name] = found
                self._sealed[name] = found.reference
            return found

    def discard_sealed(self, name: str) -> None:
        """Says that a file written in this session will never be named by a checkpoint: an abort, or dropped again.

        It is removed after the second checkpoint from now: the one that may be under way could still replay its
        record.
        """
        with self._sealing:
            self._discarded.add(name)

    # Checking and ending

    def verify(self) -> list[verify.Finding]:
        """Reads and checks every byte that lives: manifest, page map, pages, log, sealed files. Any thread."""
        with self._checkpointing:
            limit = None if self._log is None else self._log.durable_lsn
            return verify.verify_directory(self.fs, log_limit=limit)

    def close(self) -> None:
        """Flushes the log, stops its threads and gives the directory back. Takes no checkpoint. Harmless twice."""
        try:
            if self._log is not None:
                self._log.close()
        finally:
            self._pages.close()
            self._lock_file.release()

    # Steps

    def _write_and_switch(self, image: CheckpointImage) -> None:
        """Pages and map to new places, then the manifest. DiskFull: the old state is untouched."""
        sealed = {name: self._sealed_ref(name) for name in sorted(image.sealed)}
        manifest = self._manifest
        prepared = self._pages.prepare(image.pages, image.live_arenas, manifest.sequence + 1)
        self._switch(
            manifest.next(
                redo_lsn=image.redo_lsn, page_map=prepared.reference, metadata=image.metadata, sealed=sealed
            )
        )
        crash_points.reach("checkpoint:switched")
        self._pages.install(prepared)

    def _switch(self, manifest: Manifest) -> None:
        self._manifest = manifests.switch(self.fs, manifest, self._manifest.crc)

    def _check(self) -> None:
        failed = self.failed
        if failed is not None:
            raise StorageFailed(failed.message, detail=failed.detail, hint=failed.hint)

    def _fail(self, error: StorageFailed) -> None:
        if self._failed is None:
            self._failed = error
        if self._log is not None:
            self._log.fail(error)

    def _mark_again(self, image: CheckpointImage) -> None:
        """The pages of an image that did not reach the disk are dirty again; only then may the next image be taken."""
        for page_image in image.pages:
            arena = self._arenas.get(page_image.arena)
            if arena is not None:
                arena.dirty[page_image.numbers] = 1

    def _sealed_ref(self, name: str) -> SealedRef:
        found = self._sealed.get(name)
        return self.open_sealed(name).reference if found is None else found

    def _remove_leftovers(self) -> None:
        """Startup: temps and page maps that nothing needs; sealed files that nothing may name are noted."""
        if self.fs.exists(MANIFEST_TEMP):
            self.fs.unlink(MANIFEST_TEMP)
            self.fs.sync_dir("")
        self._pages.remove_strays()
        crash_points.reach("recovery:pages_cleaned")
        for storage_id in self.fs.list(TABLES_DIR):
            for base in self.fs.list(f"{TABLES_DIR}/{storage_id}"):
                name = f"{TABLES_DIR}/{storage_id}/{base}"
                if name not in self._sealed:
                    # The log may have attached it: the first checkpoint knows, and removes it if not.
                    self._doomed.add(name)

    def _remove_old_logs(self, files: LogFiles) -> None:
        """Startup: log files before the one that holds `redo_lsn`."""
        live = {header.path for header in files.live}
        old = [path for _, path in list_log_files(self.fs) if path not in live]
        for path in old:
            self.fs.unlink(path)
        if old:
            self.fs.sync_dir(LOG_DIR)

    def _given_back(self, names: set[str]) -> int:
        """Bytes of the sealed files that nobody reads, of those that a checkpoint drops."""
        sizes = self._manifest.sealed
        with self._sealing:
            return sum(sizes[name].size for name in names if name not in self._open_files)

    def _remove_sealed(self, before: set[str], live: set[str]) -> None:
        """Unlinks sealed files that the new manifest dropped, except those that somebody still reads (R15)."""
        with self._sealing:
            doomed = (before | self._doomed) - live
            self._doomed = self._discarded - live
            self._discarded = set()
            pinned = {name for name in doomed if name in self._open_files}
            self._doomed |= pinned
            gone = sorted(doomed - pinned)
            for name in gone:
                self._sealed.pop(name, None)
        for name in gone:
            if self.fs.exists(name):
                self.fs.unlink(name)
        for directory in {name.rpartition("/")[0] for name in gone}:
            self.fs.sync_dir(directory)


def _initialise(fs: FileSystem, options: StoreOptions) -> None:
    """Makes a new store: directories, then the manifest, whose rename is the moment of birth."""
    if list_log_files(fs):
        raise DataCorrupted(f"file {MANIFEST_FILE} is missing, but directory {LOG_DIR} holds a log")
    for directory in (LOG_DIR, PAGES_DIR, TABLES_DIR):
        if not fs.exists(directory):
            fs.make_dir(directory)
    fs.sync_dir("")
    crash_points.reach("store:directories_made")
    manifests.switch(fs, Manifest(uuid=options.random(16)), 0)
    crash_points.reach("store:initialised")


def _table_directory(name: str) -> str:
    if not is_sealed_name(name):
        raise ValueError(f"not the name of a sealed file: {name!r}")
    return name.rpartition("/")[0]
