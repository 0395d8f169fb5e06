"""What a server remembers over its own end: the key of its file handles, and where each inode was seen.

``DIRECTORY/handle-key`` keys the MAC of every handle. ``DIRECTORY/inodes-EXPORT-ROOT.sqlite`` holds a row for each
inode that a handle was made for: the place where it was last seen, what tells it from a later inode with its number,
and the times that are reported instead of the disk's. ``ROOT`` is the identity of the exported directory itself, so
moving the directory keeps its table, and an empty mount point in its place does not spoil it.

**What may be lost.** A batch is written at most `FLUSH_AFTER_S` after its first change, and before the reply of
anything that waits for the disk. It is in the kernel then, and survives the server; after a power failure the newest
rows may be missing, for the file is synced at checkpoints only. A missing row costs a search for the file, or one
more READ by a client, and never an answer about the wrong file.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from freepage_runtime.clock import wall_ns
from freepage_runtime.errors import UserError
from freepage_runtime.logs import fields
from freepage_runtime.token import load_or_create
from freepage_server.nfsd.handles import export_id
from freepage_server.nfsd.storage import Key

log = logging.getLogger(__name__)

FLUSH_AFTER_S = 0.05
"""How long a change of the table may wait for others to go with it."""
MAX_PENDING = 4096
"""As many changes wait in memory; more are written at once, by whoever brings them."""

INO_SIZE = 8
"""A key begins with the inode's number, big-endian."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS inode (
    key BLOB PRIMARY KEY, parent BLOB NOT NULL, name BLOB NOT NULL, mode INTEGER NOT NULL,
    version INTEGER, birth_ns INTEGER,
    disk_mtime_ns INTEGER, disk_ctime_ns INTEGER, disk_size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER
) WITHOUT ROWID
"""
_PUT = "INSERT OR REPLACE INTO inode VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_NO_TIMES = (None,) * 5


class Times(NamedTuple):
    """While the disk says the first three of an inode, its mtime and ctime are reported as the last two (ns)."""

    disk_mtime_ns: int
    disk_ctime_ns: int
    disk_size: int
    mtime_ns: int
    ctime_ns: int


class Record(NamedTuple):
    """Where an inode was seen last, and what tells it from another. ``times`` None: the disk's are right."""

    parent: Key
    name: bytes
    mode: int
    version: int | None
    birth_ns: int | None
    times: Times | None


def _record(row: tuple[object, ...]) -> Record:
    parent, name, mode, version, birth_ns, *times = row
    return Record(parent, name, mode, version, birth_ns, None if times[0] is None else Times(*times))  # type: ignore[arg-type]


class InodeTable:
    """The rows of one export: a few in memory until they are written in one go, the others in SQLite.

    Everything is for the event loop's thread, but `write`, which may run in any.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending: dict[Key, Record | None] = {}
        self._batches: list[dict[Key, Record | None]] = []
        """taken from ``_pending`` and not yet written, oldest first; `write` removes a batch when it is written"""
        self._lock = threading.Lock()
        """held by the one thread that writes"""
        self._reader, self._writer = self._open()

    def _open(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        try:
            return self._connect(), self._connect()
        except sqlite3.DatabaseError as error:
            # Files are found without it, only slower: better to begin anew than not to serve.
            aside = self.path.with_suffix(".damaged")
            log.error("the table of inodes is damaged", extra=fields(path=self.path, kept_as=aside, error=str(error)))
            self.path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            return self._connect(), self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=30.0)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Write what waits, and close. Calling it again does nothing."""
        self.flush()
        with self._lock:
            self._reader.close()
            self._writer.close()

    @property
    def pending(self) -> int:
        """How many changes are not written yet."""
        return len(self._pending)

    def put(self, key: Key, record: Record | None) -> None:
        """Remember this; None forgets the key."""
        self._pending[key] = record

    def get(self, key: Key) -> Record | None:
        for waiting in (self._pending, *reversed(self._batches)):
            if key in waiting:
                return waiting[key]
        try:
            row = self._reader.execute(
                "SELECT parent, name, mode, version, birth_ns, disk_mtime_ns, disk_ctime_ns, disk_size, mtime_ns,"
                " ctime_ns FROM inode WHERE key = ?",
                (key,),
            ).fetchone()
        except sqlite3.Error as error:
            log.error("the table of inodes cannot be read", extra=fields(path=self.path, error=str(error)))
            return None
        return None if row is None else _record(row)

    def with_number(self, ino: int) -> Iterable[Key]:
        """The keys of inodes that had this number."""
        prefix = ino.to_bytes(INO_SIZE, "big")
        try:
            rows = self._reader.execute(
                "SELECT key FROM inode WHERE key >= ? AND key < ?",
                (prefix, (ino + 1).to_bytes(INO_SIZE + 1, "big")[1:]),
            ).fetchall()
        except sqlite3.Error as error:
            log.error("the table of inodes cannot be read", extra=fields(path=self.path, error=str(error)))
            return []
        return [key for (key,) in rows]

    def take(self) -> None:
        """Close the batch: the next `write` writes it."""
        if self._pending:
            self._batches.append(self._pending)
            self._pending = {}

    def write(self) -> None:
        """Write what was taken; when this returns it survives the process."""
        with self._lock:
            while self._batches:
                try:
                    self._write(self._batches[0])
                except sqlite3.Error as error:
                    log.error("the table of inodes cannot be written", extra=fields(path=self.path, error=str(error)))
                finally:
                    self._batches.pop(0)

    def flush(self) -> None:
        """`take` and `write`."""
        self.take()
        self.write()

    def _write(self, changes: dict[Key, Record | None]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            gone = [(key,) for key, record in changes.items() if record is None]
            self._writer.executemany("DELETE FROM inode WHERE key = ?", gone)
            self._writer.executemany(
                _PUT, [(key, *record[:5], *(record.times or _NO_TIMES)) for key, record in changes.items() if record]
            )
            self._writer.execute("COMMIT")
        except BaseException:
            self._writer.execute("ROLLBACK")
            raise


def default_state_directory(name: str) -> Path:
    """``server-NAME`` in $FREEPAGE_STATE_DIR, else $XDG_STATE_HOME/freepage, else ~/.local/state/freepage."""
    if named := os.environ.get("FREEPAGE_STATE_DIR"):
        root = Path(named)
    else:
        xdg = os.environ.get("XDG_STATE_HOME")
        root = (Path(xdg) if xdg else Path.home() / ".local" / "state") / "freepage"
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
    return root / f"server-{safe}"


class ServerState:
    """The state directory of one server, which no other may use meanwhile. Raises UserError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UserError(
                f"cannot use the state directory {directory}: {error.strerror} (name another with --state)"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise UserError(
                f"another server uses the state directory {directory} (give this one its own with --state or --name)"
            ) from error

    def close(self) -> None:
        os.close(self._lock)

    def secret(self, max_age_s: float | None = None) -> bytes:
        """The key of file handles; made at the first start, 0600.

        A key older than ``max_age_s`` is made anew, and every handle of before is BADHANDLE.
        """
        path = self.directory / "handle-key"
        if max_age_s is not None and path.exists() and wall_ns() - path.stat().st_mtime_ns > max_age_s * 1e9:
            log.warning("the handle key is too old: clients have to mount again", extra=fields(path=path))
            path.unlink()
        return load_or_create(path).encode()

    def table_for(self, export: str) -> Callable[[Key], InodeTable]:
        """What `DirectoryStorage` takes: from the key of an exported directory to its table."""

        def open_table(root: Key) -> InodeTable:
            path = self.directory / f"inodes-{export_id(export):016x}-{root.hex()}.sqlite"
            try:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                return InodeTable(path)
            except (OSError, sqlite3.Error) as error:
                raise UserError(f"cannot use {path}: {error}") from error

        return open_table
