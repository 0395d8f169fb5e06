"""READDIR and READDIRPLUS: cutting a directory into replies by the size they have on an NFSv3 wire.

knfsd lets the list of entries fill ``count`` bytes less two XDR words (the end of the list and the eof flag); what
stands before the list is not counted (fs/nfsd/nfs3proc.c nfsd3_init_dirlist_pages), and READDIRPLUS ignores
``dircount``. Handles count 16 bytes each, as in the recordings of the real server, whatever ours measure: so a
directory is cut where knfsd on ext4 would cut it.
"""

from __future__ import annotations

import asyncio

from freepage_proto.nfs3 import DirEntry3, NfsStat3
from freepage_server.nfsd.errors import NfsError
from freepage_server.nfsd.fh import Fh
from freepage_server.nfsd.handles import HandleCodec
from freepage_server.nfsd.storage import StoredEntry

COOKIEVERF = bytes(8)
"""Cookies never go bad while the directory lives, so the verifier never changes (knfsd on ext4: zero)."""

READDIR_ENTRY_SIZE = 24
"""Follows flag 4, fileid 8, name's length 4, cookie 8."""
READDIRPLUS_ENTRY_SIZE = 136
"""READDIR's 24, attributes 4 + 84, handle 4 + 4 + 16."""
LIST_END_SIZE = 8

PLUS_AT_ONCE = 64
"""Entries of a READDIRPLUS, some 5 ms if nobody has looked at them before, after which others have their turn."""
AT_ONCE = 512
"""Entries of a READDIR."""


def entry_size(name: bytes, plus: bool) -> int:
    """Bytes of XDR that an entry takes."""
    return (READDIRPLUS_ENTRY_SIZE if plus else READDIR_ENTRY_SIZE) + (len(name) + 3) // 4 * 4


async def read_directory(
    fh: Fh, handles: HandleCodec, cookie: int, count: int, *, plus: bool
) -> tuple[tuple[DirEntry3, ...], bool]:
    """The entries after ``cookie`` that fit into ``count`` bytes, and whether they are the last.

    Others may change the directory while it is read. Its attributes in ``fh`` are then those of before: the client
    compares them with later ones, and must not take what it was told for newer than it is.

    Raises NfsError(TOOSMALL) when not even one fits.
    """
    storage = fh.export.storage
    before = fh.attributes()
    room = count - LIST_END_SIZE
    entries: list[DirEntry3] = []
    while True:
        batch, end = await storage.readdir(fh.key, cookie, PLUS_AT_ONCE if plus else AT_ONCE)
        for stored in batch:
            room -= entry_size(stored.name, plus)
            if room < 0:
                if not entries:
                    raise NfsError(NfsStat3.TOOSMALL)
                end = False
                break
            cookie = stored.cookie
            entries.append(_plus(fh, handles, stored) if plus else DirEntry3(stored.fileid, stored.name, cookie))
        if end or room < 0:
            break
        await asyncio.sleep(0)
    fh.fill_post_attrs()
    if fh.after is not None and (fh.after.mtime_ns, fh.after.ctime_ns) != (before.mtime_ns, before.ctime_ns):
        fh.after = before
    return tuple(entries), end


def _plus(fh: Fh, handles: HandleCodec, stored: StoredEntry) -> DirEntry3:
    """The entry with attributes and handle."""
    export = fh.export
    try:
        key = export.storage.lookup(fh.key, stored.name) if stored.key is None else stored.key
        attributes = fh.files.attributes(export, key)
    except OSError:
        # Gone since it was listed: a name without attributes makes the client look it up itself.
        return DirEntry3(stored.fileid, stored.name, stored.cookie)
    return DirEntry3(attributes.fileid, stored.name, stored.cookie, attributes, handles.encode(export.id, key))
