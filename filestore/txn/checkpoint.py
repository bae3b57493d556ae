"""Checkpoints: memory to disk while everything goes on, so that the log can go.

1. under the engine lock: choose full segments that no open transaction writes;
2. on the checkpoint's thread: encode them and write their sealed files;
3. under the lock: sealed segments take the open ones' places; the image is taken: copies of changed pages,
   metadata, the log's end;
4. on the thread: the store makes the image durable and trims the log.

The engine stops for the copies of step 3 only. Uncommitted index entries are taken out of their index for as
long as its pages are copied. What the image leaves out is still in memory and, once committed, in the log
behind the image's redo LSN.

Failures: a full disk or a damaged table leaves the old checkpoint in force, to be tried again when more log has
come; anything else ends the store, in the log's words too. From step 3 on it has to: the image's pages are no longer
dirty, so a later checkpoint would leave them out.

Thread rule: `Checkpointer` says which thread of each method; the functions below run under the engine lock, but for
`write_sealed`. Not here: merging segments that are partly dead, and copies for backups.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from filestore import errors
from filestore.storage import crash_points
from filestore.storage import directory as d
from filestore.storage.page_store import PageImage
from filestore.storage.sealed import SealedSegment, encode_column
from filestore.storage.segment import Segment
from filestore.storage.segment_file import SealedContents
from filestore.storage.store import CheckpointImage, sealed_name
from filestore.storage.table import Table
from filestore.storage.table_checkpoint import Hidden, copy_arena, copy_table, describe
from filestore.storage.vector import Array
from filestore.txn.keys import StoredKey
from filestore.txn.manager import restore_entries, take_entries
from filestore.txn.transaction import Transaction

if TYPE_CHECKING:
    from filestore.txn.engine import Engine

LOG: Final = logging.getLogger("filestore.txn")
PATIENCE: Final = 4  # times the usual log that an open bulk load may let grow


@dataclass(slots=True)
class Sealing:
    """A segment on its way to a file."""

    table: Table
    segment: Segment
    name: str
    dead: Array | None


class Checkpointer:
    """Takes checkpoints, one at a time, on a thread of its own or on the caller's."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.taken = 0
        self._running = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._wanted_from = 0  # log bytes at which the next one is due
        self._loaded = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to serve `consider`; nothing to do without threads."""
        self._wanted_from = self.engine.options.checkpoint_log_bytes
        if self.engine.options.threaded and not self.engine.store.read_only:
            self._thread = threading.Thread(target=self._serve, name="filestore-checkpoint", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread, after the checkpoint that is under way. Not under the engine lock."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def consider(self, loaded: bool = False) -> None:
        """Wakes the thread when the log has grown enough since the last checkpoint, or much was `loaded`
        beside it. Engine lock held; costs a comparison.
        """
        engine = self.engine
        if loaded or engine.log.bytes_since(engine.store.redo_lsn) >= self._wanted_from:
            self._loaded = self._loaded or loaded
            self._wake.set()

    def _is_due(self) -> bool:
        """Whether to go ahead: while a bulk load is open, its entries would have to leave the index for the
        copy, so a checkpoint waits for its end, within reason.
        """
        engine = self.engine
        with engine.lock:
            loading = any(w.attached for t in engine.manager.active.values() for w in t.writes.values())
            grown = engine.log.bytes_since(engine.store.redo_lsn)
        due = self._loaded or grown >= self._wanted_from
        return due and (not loading or grown >= PATIENCE * self._wanted_from)

    def _serve(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stopping:
                return
            if not self._is_due():
                continue
            self._loaded = False
            try:
                self.run()
                self._wanted_from = self.engine.options.checkpoint_log_bytes
            except errors.DiskFull as error:
                LOG.warning("checkpoint put off, the disk is full: %s", error.message)
                self._wanted_from *= 2
            except errors.StorageFailed as error:
                LOG.error("checkpoint failed, the store accepts no more writes: %s", error.message)
                return
            except errors.DataCorrupted as error:
                LOG.error("checkpoint failed: %s", error.message)
                self._wanted_from *= 2
            except BaseException as error:  # noqa: BLE001 - told to everybody
                # A bug: without this thread the log would grow for ever, and nobody would be told.
                self._end_store(error)
                return

    def run(self) -> None:
        """One checkpoint, durable on return. Any thread, engine lock not held. Raises DiskFull,
        StorageFailed; DataCorrupted while a table is damaged (`Engine.quarantine`).
        """
        with self._running:
            self.engine.log.check_room()
            with self.engine.lock:
                for problem in self.engine.damaged.values():
                    raise errors.DataCorrupted(
                        f"no checkpoint is taken while a table is damaged: {problem}",
                        hint="Restore a backup of the directory, or drop the table. The log is kept until then.",
                    )
                chosen = choose(self.engine)
            crash_points.reach("checkpoint:segments_chosen")
            for sealing in chosen:
                write_sealed(self.engine, sealing)
            crash_points.reach("checkpoint:segments_written")
            with self.engine.lock:
                for sealing in chosen:
                    install(self.engine, sealing)
                crash_points.reach("checkpoint:segments_installed")
                try:
                    image = take_image(self.engine)
                except BaseException as error:
                    raise self._end_store(error) from error
            crash_points.reach("checkpoint:image_taken")
            try:
                self.engine.store.checkpoint(image)
            except (errors.DiskFull, errors.StorageFailed):
                raise
            except BaseException as error:
                raise self._end_store(error) from error
            self.taken += 1

    def _end_store(self, error: BaseException) -> errors.StorageFailed:
        LOG.error("a checkpoint met a bug, the store accepts no more writes", exc_info=error)
        return self.engine.log.fail(errors.StorageFailed(f"a checkpoint failed: {error!r}"))


# --- sealing


def choose(engine: Engine) -> list[Sealing]:
    """Segments that will not change any more, ends apart: full or left behind by a bulk load, with nothing
    pending.
    """
    found = []
    for definition in engine.registry.tables():
        table = engine.tables[definition.storage_id]
        for segment in table.segment_list():
            if segment.columns is None or (segment is table.open_segment and segment.rows < table.slots):
                continue
            if segment.pending or segment.rows == 0:
                continue
            row = segment.directory.matrix[segment.number]
            assert segment.begin is not None, "an open segment has begins"
            dead = segment.begin[: segment.rows] == d.ABORTED if row[d.DEAD] else None
            name = sealed_name(table.storage_id, segment.number)
            found.append(Sealing(table, segment, name, dead))
    return found


def write_sealed(engine: Engine, sealing: Sealing) -> None:
    """Encodes and writes one segment's file. Any thread."""
    segment, rows = sealing.segment, sealing.segment.rows
    columns = [
        encode_column(sql_type, [segment.vector(i, 0, rows)], rows, sealing.dead)
        for i, sql_type in enumerate(segment.layout.types)
    ]
    contents = SealedContents(sealing.table.storage_id, segment.number, rows, columns)
    engine.store.write_sealed(sealing.name, contents)


def install(engine: Engine, sealing: Sealing) -> None:
    """Puts the file in the open segment's place, unless the table has gone meanwhile. Engine lock held."""
    table, old = sealing.table, sealing.segment
    if table.segments[old.number] is not old or engine.tables.get(table.storage_id) is not table:
        engine.store.discard_sealed(sealing.name)
        return
    columns = SealedSegment(engine.store.open_sealed(sealing.name), table.layout)
    table.seal(old.number, columns, engine.manager.oldest_timestamp())


# --- image


def take_image(engine: Engine) -> CheckpointImage:
    """What is committed, as copies. Engine lock held."""
    active = list(engine.manager.active.values())
    hidden: dict[Table, Hidden] = {}
    for txn in active:
        for table, writes in txn.writes.items():
            found = hidden.setdefault(table, Hidden())
            found.inserted += writes.inserted
            found.ended += writes.ended
            found.heads += writes.heads
            found.attached.update(n for a in writes.attached for n in a.segments)
    pages: list[PageImage] = []
    described: dict[str, Any] = {}
    sealed: set[str] = set()
    live: set[str] = set()
    for definition in engine.registry.tables():
        table = engine.tables[definition.storage_id]
        masks = hidden.get(table)
        skipped = set() if masks is None else masks.attached
        collapse(table, engine.manager.oldest_timestamp())
        vacate(table, engine.manager.oldest_timestamp())
        pages += copy_table(table, masks)
        committed = {key.oid for key in definition.keys}
        keys = [key for key in table.stored_keys if key.definition.oid in committed]
        pages += copy_keys(table, keys, active)
        described[str(definition.storage_id)] = describe(table, skipped)
        kept = [s for s in table.segment_list() if s.number not in skipped]
        sealed.update(s.sealed.name for s in kept if s.sealed is not None)
        live.update(a.name for s in kept for a in s.arenas())
        live.update(key.arena.name for key in keys)
    metadata = {
        "registry": engine.registry.to_json(),
        "tables": described,
        "clock": engine.manager.last_committed,
        "next_id": engine.manager.next_id,
    }
    return CheckpointImage(metadata, engine.log.end_lsn, pages, live, sealed)


def copy_keys(table: Table, keys: list[StoredKey], active: list[Transaction]) -> list[PageImage]:
    """The indexes' changed pages, without the entries of open transactions."""
    taken = [entry for txn in active if table in txn.writes for entry in txn.writes[table].entries]
    for entry in taken:
        take_entries(*entry)
    try:
        images = [copy_arena(key.arena, pages=key.index.page_count) for key in keys]
    finally:
        for entry in reversed(taken):
            restore_entries(*entry)
    return [image for image in images if image is not None]


def collapse(table: Table, oldest: int) -> None:
    """Sealed segments whose rows are all older than any snapshot need no vector of begins."""
    for segment in table.segment_list():
        if segment.sealed is not None and segment.begin is not None:
            row = segment.directory.matrix[segment.number]
            if row[d.DEAD] == 0 and row[d.PENDING] == 0 and int(row[d.LAST_BEGIN]) <= oldest:
                table.collapse(segment.number)


def vacate(table: Table, oldest: int) -> None:
    """Segments in which every version has ended before any snapshot give their values up.

    This keeps scans of small tables with hot rows short; mixed segments are for a merge to rewrite.
    """
    for segment in table.segment_list():
        row = segment.directory.matrix[segment.number]
        if segment.vacant or segment is table.open_segment or row[d.PENDING] or segment.end is None:
            continue
        if int(row[d.DEAD]) + int(row[d.ENDED]) != segment.rows:
            continue
        ends = segment.end[: segment.rows]
        ended = ends[ends != d.INFINITY]
        # A mark is negative: its transaction may yet abort.
        if len(ended) == int(row[d.ENDED]) and int(ended.min(initial=0)) >= 0 and int(ended.max(initial=0)) <= oldest:
            table.vacate(segment.number)
