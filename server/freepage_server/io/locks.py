"""The locks that clients hold, for the control service: an administrator looks at them, and frees a dead client's."""

from __future__ import annotations

from collections.abc import Iterable

from freepage_runtime.control import FileLock
from freepage_server.nfsd.lockd import END
from freepage_server.nfsd.server import NfsServer


class Locks:
    """What `ControlService` wants of a server with locks."""

    def __init__(self, nfsd: NfsServer) -> None:
        self._nfsd = nfsd

    def all(self) -> Iterable[FileLock]:
        for file, lock, waiting in self._nfsd.locks.named():
            length = 0 if lock.end == END else lock.end - lock.start
            path = self._nfsd.describe(file)
            yield FileLock(lock.client, lock.svid, path, lock.start, length, lock.exclusive, waiting)

    def release(self, client: str) -> int:
        """Take the client's locks away; returns how many it held."""
        return self._nfsd.locks.free_client(client)
