"""File handles: which export, which inode, and a keyed MAC that nobody outside the server can make.

``version (1) | export id (8) | MAC (16) | storage key (1..39)``: at most 64 bytes. The export's id is a hash of its
name, so handles survive a restart and a change in the order of exports; the storage's key is never used twice, so a
handle goes stale with its inode. The MAC covers all the rest, hence a handle of one export is no key to another.
"""

from __future__ import annotations

import hashlib
import hmac

from freepage_proto.nfs3 import NFS3_FHSIZE, FileHandle, NfsStat3
from freepage_server.nfsd.errors import NfsError
from freepage_server.nfsd.storage import Key

_VERSION = b"\x01"
_MAC_SIZE = 16
_HEADER_SIZE = 1 + 8 + _MAC_SIZE

MAX_REMEMBERED = 65536
"""Handles made or checked before that are not computed again."""


def export_id(name: str) -> int:
    """A 64-bit number for an export, from its name alone; also its fsid."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, person=b"freepage-export").digest()[:8], "big")


class HandleCodec:
    """Makes and checks handles. ``secret`` must stay the same over restarts, or every handle becomes BADHANDLE."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.blake2b(secret, digest_size=32, person=b"freepage-handle").digest()
        self._made: dict[tuple[int, Key], FileHandle] = {}
        self._known: dict[FileHandle, tuple[int, Key]] = {}
        """handles whose MAC was right once"""

    def encode(self, export: int, key: Key) -> FileHandle:
        """The handle of an inode. Remembered, because a READDIRPLUS asks for hundreds."""
        handle = self._made.get((export, key))
        if handle is None:
            if len(self._made) >= MAX_REMEMBERED:
                self._made.clear()
            name = export.to_bytes(8, "big")
            handle = self._made[export, key] = _VERSION + name + self._mac(name + key) + key
            assert len(handle) <= NFS3_FHSIZE
        return handle

    def decode(self, handle: FileHandle) -> tuple[int, Key]:
        """Export id and storage key. Raises NfsError(BADHANDLE) for anything that this server did not make."""
        known = self._known.get(handle)
        if known is not None:
            return known
        if not _HEADER_SIZE < len(handle) <= NFS3_FHSIZE or handle[:1] != _VERSION:
            raise NfsError(NfsStat3.BADHANDLE)
        name, mac, key = handle[1:9], handle[9:_HEADER_SIZE], bytes(handle[_HEADER_SIZE:])
        if not hmac.compare_digest(mac, self._mac(name + key)):
            raise NfsError(NfsStat3.BADHANDLE)
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        found = self._known[bytes(handle)] = int.from_bytes(name, "big"), key
        return found

    def _mac(self, message: bytes) -> bytes:
        return hashlib.blake2b(message, digest_size=_MAC_SIZE, key=self._secret).digest()
