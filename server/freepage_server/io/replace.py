"""ReplacePages of the control service, on a server: the one removal path that NFS never takes by itself."""

from __future__ import annotations

import errno
import os

from freepage_proto.rpc import AuthSys
from freepage_server.nfsd.errors import NfsError
from freepage_server.nfsd.export import Export
from freepage_server.nfsd.fh import Fh
from freepage_server.nfsd.server import NfsServer


def _export_of(server: NfsServer, path: str) -> tuple[Export, str]:
    for name, export in server.exports.items():
        inside = path.removeprefix(name.rstrip("/") + "/")
        if inside != path:
            return export, inside
    raise FileNotFoundError(errno.ENOENT, "no export has this path", path)


async def change_pages(server: NfsServer, path: str, first: int, count: int, change: str) -> int:
    """Replace the cached clean pages [first, first + count) of an exported file; returns how many.

    ``path`` is the export's name followed by the file's path in it. Raises OSError, FileNotFoundError among them.
    """
    if change != "replace":
        raise OSError(errno.EOPNOTSUPP, f"a server's pages can be replaced, and nothing else ({change})")
    export, inside = _export_of(server, path)
    fh = Fh(server.files, export, export.storage.root())
    try:
        for part in inside.split("/"):
            if part not in ("", "."):
                fh = server.vfs.lookup(fh, os.fsencode(part), AuthSys())
    except NfsError as error:
        raise FileNotFoundError(errno.ENOENT, str(error), path) from error
    fh.require_file()
    return await server.files.replace_pages(export, fh.key, first, count)
