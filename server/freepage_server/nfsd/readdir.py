"""READDIR and READDIRPLUS: cutting a directory into replies by the size they have on an NFSv3 wire.

knfsd lets the list of entries fill ``count`` bytes less two XDR words (the end of the list and the eof flag); what
stands before the list is not counted (fs/nfsd/nfs3proc.c nfsd3_init_dirlist_pages), and READDIRPLUS ignores
``dircount``. Handles count 16 bytes each, as in the recordings of the real server, whatever ours measure: so a
directory is cut where knfsd on ext4 would cut it.
"""

from __future__ import annotations

from freepage_proto.nfs3 import DirEntry3, NfsStat3
from freepage_server.nfsd.errors import NfsError
from freepage_server.nfsd.fh import Fh
from freepage_server.nfsd.handles import HandleCodec

COOKIEVERF = bytes(8)
"""Cookies never go bad while the directory lives, so the verifier never changes (knfsd on ext4: zero)."""

READDIR_ENTRY_SIZE = 24
"""Follows flag 4, fileid 8, name's length 4, cookie 8."""
READDIRPLUS_ENTRY_SIZE = 136
"""READDIR's 24, attributes 4 + 84, handle 4 + 4 + 16."""
LIST_END_SIZE = 8

_BATCH = 512


def entry_size(name: bytes, plus: bool) -> int:
    """Bytes of XDR that an entry takes."""
    return (READDIRPLUS_ENTRY_SIZE if plus else READDIR_ENTRY_SIZE) + (len(name) + 3) // 4 * 4


def read_directory(
    fh: Fh, handles: HandleCodec, cookie: int, count: int, *, plus: bool
) -> tuple[tuple[DirEntry3, ...], bool]:
    """The entries after ``cookie`` that fit into ``count`` bytes, and whether they are the last.

    Raises NfsError(TOOSMALL) when not even one fits.
    """
    storage, export = fh.export.storage, fh.export
    room = count - LIST_END_SIZE
    entries: list[DirEntry3] = []
    while True:
        batch, end = storage.readdir(fh.key, cookie, _BATCH)
        for stored in batch:
            room -= entry_size(stored.name, plus)
            if room < 0:
                if not entries:
                    raise NfsError(NfsStat3.TOOSMALL)
                return tuple(entries), False
            cookie = stored.cookie
            if not plus:
                entries.append(DirEntry3(stored.fileid, stored.name, cookie))
                continue
            try:
                key = storage.lookup(fh.key, stored.name) if stored.key is None else stored.key
                attributes = fh.files.attributes(export, key)
            except OSError:
                # Gone since it was listed: a name without attributes makes the client look it up itself.
                entries.append(DirEntry3(stored.fileid, stored.name, cookie))
            else:
                handle = handles.encode(export.id, key)
                entries.append(DirEntry3(attributes.fileid, stored.name, cookie, attributes, handle))
        if end:
            return tuple(entries), True
