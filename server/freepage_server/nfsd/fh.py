"""A file handle being worked on (Linux: struct svc_fh): what it resolved to, and its attributes before and after."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from freepage_proto.nfs3 import Fattr3, FileHandle, FType3, WccAttr, WccData
from freepage_proto.rpc import AuthSys, CallHeader
from freepage_server.nfsd.export import Export
from freepage_server.nfsd.filecache import FileCache
from freepage_server.nfsd.storage import Key


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Fh:
    """One verified handle for the length of one call.

    ``before`` is None until `fill_pre_attrs`; ``after`` until `fill_post_attrs`, and is then what the reply carries
    even if the inode changes while the reply waits for the disk.
    """

    __slots__ = ("after", "before", "export", "files", "key")

    def __init__(self, files: FileCache, export: Export, key: Key) -> None:
        self.files = files
        self.export = export
        self.key = key
        self.before: WccAttr | None = None
        self.after: Fattr3 | None = None

    def attributes(self) -> Fattr3:
        """Raises ESTALE."""
        return self.files.attributes(self.export, self.key)

    def require_directory(self) -> Fattr3:
        attributes = self.attributes()
        if attributes.type is not FType3.DIR:
            raise error(errno.ENOTDIR)
        return attributes

    def require_file(self) -> Fattr3:
        attributes = self.files.attributes(self.export, self.key)
        if attributes.type is not FType3.REG:
            raise error(errno.EISDIR if attributes.type is FType3.DIR else errno.EINVAL)
        return attributes

    def require_writable(self) -> None:
        if self.export.read_only:
            raise error(errno.EROFS)

    def fill_pre_attrs(self) -> None:
        attributes = self.attributes()
        self.before = WccAttr(attributes.size, attributes.mtime_ns, attributes.ctime_ns)

    def fill_post_attrs(self) -> None:
        self.after = self.attributes()

    def post(self) -> Fattr3 | None:
        """Post-operation attributes, or None when the inode is gone."""
        if self.after is None:
            try:
                self.fill_post_attrs()
            except OSError:
                return None
        return self.after

    def wcc(self) -> WccData:
        return WccData(self.before, self.post())


Resolve = Callable[[FileHandle, CallHeader], tuple[Fh, AuthSys]]
"""From a handle and the caller to the inode and the credential he has there.

Raises BADHANDLE, and STALE for an export that is no more; whether the inode still lives shows at its first use.
"""
