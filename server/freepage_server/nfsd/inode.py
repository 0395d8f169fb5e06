"""A regular file that the server is reading or writing: its pages, and what is known that the storage is not."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from freepage import AddressSpace, File
from freepage_proto.nfs3 import Fattr3
from freepage_proto.rpc import AuthSys
from freepage_server.nfsd.export import Export
from freepage_server.nfsd.storage import Key

MAX_FILES_PER_INODE = 16
"""Readahead states kept per inode, one for each caller (knfsd: its file cache)."""


class NfsdFile(File):
    """An inode as one caller reads and writes it: the caller's credential and readahead window."""

    def __init__(self, inode: Inode, cred: AuthSys) -> None:
        super().__init__(inode.mapping)
        self.inode = inode
        self.cred = cred


class Inode:
    """**Invariants.** ``seen`` is the storage's (mtime, ctime, size) that the clean pages agree with. ``overlay`` is
    what is reported instead, as (mtime, ctime), while data are unwritten; with the last of them it is handed to
    `Storage.report_times`, since our own write-back moves the ctime on disk, and must not look like a foreign change.
    ``disk_ctime_ns`` is where we left that ctime. ``i_size`` is the size as reported.

    ``users`` counts calls and I/O under way: an inode that is gone is evicted when the last one leaves. ``io`` counts
    our own changes of the storage under way: until they are done, what the storage says is not compared.
    """

    __slots__ = (
        "disk_ctime_ns",
        "export",
        "files",
        "foreign",
        "gone",
        "i_ino",
        "i_size",
        "io",
        "key",
        "last_file",
        "lock",
        "mapping",
        "name",
        "overlay",
        "racy_until_ns",
        "seen",
        "synced",
        "syncing",
        "users",
        "wb_err_seen",
    )

    mapping: AddressSpace

    def __init__(self, export: Export, key: Key, attributes: Fattr3) -> None:
        self.export = export
        self.key = key
        self.name = export.id, key
        self.i_ino = attributes.fileid
        self.i_size = attributes.size
        self.seen = (attributes.mtime_ns, attributes.ctime_ns, attributes.size)
        self.disk_ctime_ns = attributes.ctime_ns
        self.overlay: tuple[int, int] | None = None
        self.foreign = False
        """somebody else changed the file: its clean pages are dropped before the next use"""
        self.racy_until_ns = 0
        """pages were filled so soon after a change that another one could hide in the same timestamp"""
        self.gone = False
        self.users = 0
        self.io = 0
        self.synced: bool | None = None
        """False: written to the storage since the last fsync began. None: nothing was written by this `Inode`, but an
        earlier one of the same file may have been forgotten with data that were written and not synced"""
        self.syncing: asyncio.Task[None] | None = None
        """the fsync under way"""
        self.wb_err_seen = 0
        self.lock = asyncio.Lock()
        """held by whoever changes size or data (Linux: i_rwsem)"""
        self.files: OrderedDict[AuthSys, NfsdFile] = OrderedDict()
        self.last_file: NfsdFile | None = None
        """the one used last: the calls of a reader come one after the other"""

    @property
    def audit_name(self) -> str:
        return f"{self.export.name.rstrip('/')}/{self.export.storage.describe(self.key)}"

    def file_for(self, cred: AuthSys) -> NfsdFile:
        file = self.last_file
        if file is not None and file.cred is cred:
            return file
        file = self.last_file = self._file_for(cred)
        return file

    def _file_for(self, cred: AuthSys) -> NfsdFile:
        file = self.files.get(cred)
        if file is None:
            file = self.files[cred] = NfsdFile(self, cred)
            if len(self.files) > MAX_FILES_PER_INODE:
                self.files.popitem(last=False)
        else:
            self.files.move_to_end(cred)
        return file

    @property
    def busy(self) -> bool:
        """In use, or with data that would be lost if the inode were forgotten now."""
        return bool(self.users or self.io or self.mapping.dirty_tags or self.mapping.writeback_tags)
