"""The verifier: every checksum of a directory, read from the disk. Product code: `filestore check`, tests, scrubs.

It reads the manifest and all that it names, and collects findings instead of stopping at the first. It believes no
memory of an open store but the limit up to which the log is durable. It writes nothing and takes no lock. It does
not check what payloads mean: tables against indexes is the business of `filestore.txn.check`.

Thread rule: any thread; the caller sees to it that nothing which the manifest names is removed meanwhile.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from filestore.errors import Error
from filestore.hal import FileSystem
from filestore.storage import manifest as manifests
from filestore.storage.layout import LOG_DIR, MANIFEST_FILE, PAGES_FILE
from filestore.storage.log_files import list_log_files
from filestore.storage.log_reader import LogReader
from filestore.storage.manifest import Manifest
from filestore.storage.page_store import PageStore
from filestore.storage.segment_file import SealedFile


@dataclass(frozen=True)
class Finding:
    """Damage to one place. `problem` names file and offset for humans."""

    file: str
    problem: str


def verify_directory(fs: FileSystem, *, log_limit: int | None = None) -> list[Finding]:
    """Everything wrong with the store in `fs`, an empty list when it is sound.

    `log_limit`: the log of an open store is durable up to here and still being written behind it.
    """
    findings: list[Finding] = []
    try:
        manifest, damage = manifests.read(fs)
    except FileNotFoundError:
        return [Finding(MANIFEST_FILE, f"file {MANIFEST_FILE} is missing")]
    except Error as error:
        return [Finding(MANIFEST_FILE, error.message)]
    findings += [Finding(MANIFEST_FILE, f"file {MANIFEST_FILE} at offset {at}: {what}") for at, what in damage]
    findings += _verify_pages(fs, manifest)
    findings += _verify_log(fs, manifest, log_limit)
    findings += _verify_sealed(fs, manifest)
    return findings


def _verify_pages(fs: FileSystem, manifest: Manifest) -> list[Finding]:
    name = PAGES_FILE if manifest.page_map is None else manifest.page_map.name
    try:
        pages = PageStore(fs, manifest.uuid, manifest.page_map)
        try:
            return [Finding(PAGES_FILE, error.message) for _, _, error in pages.damaged_pages()]
        finally:
            pages.close()
    except Error as error:
        return [Finding(name, error.message)]


def _verify_log(fs: FileSystem, manifest: Manifest, limit: int | None) -> list[Finding]:
    """From the oldest file that is kept, so that also what a backup or a feed holds is read."""
    files = list_log_files(fs)
    if not files and manifest.epoch == 0:
        return []
    first = min([manifest.redo_lsn, *(lsn for lsn, _ in files)])
    try:
        reader = LogReader(fs, manifest.uuid, first, epoch_floor=manifest.epoch, limit=limit)
        deque(reader.runs(), maxlen=0)
        if reader.end_lsn < manifest.redo_lsn:
            return [Finding(LOG_DIR, f"the log ends at LSN {reader.end_lsn} before {manifest.redo_lsn}")]
    except Error as error:
        return [Finding(LOG_DIR, error.message)]
    return []


def _verify_sealed(fs: FileSystem, manifest: Manifest) -> list[Finding]:
    findings = []
    for name, reference in sorted(manifest.sealed.items()):
        try:
            findings += [Finding(name, e.message) for e in SealedFile(fs, name, manifest.uuid, reference).verify()]
        except Error as error:
            findings.append(Finding(name, error.message))
    return findings
