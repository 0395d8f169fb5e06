"""Whether the exports can be read: what the gRPC health service and /healthz say.

A server whose directory is gone, unreadable or hanging answers its clients with errors; whoever sends it clients should
know before they find out. A directory that was removed and made anew is another one: the handles into the old one are
stale, and the new one is served from then on.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

from freepage_runtime.httpd import Page, text_page
from freepage_runtime.logs import fields
from freepage_server.io.directory import DirectoryStorage
from freepage_server.nfsd.export import Export

log = logging.getLogger(__name__)

EVERY_S = 1.0
HANGS_S = 5.0
"""A directory that takes longer to list its first name is not readable."""


class ExportWatch:
    """Looks at every exported directory now and then. ``unreadable`` says why, by export; empty: all is well."""

    def __init__(self, exports: Sequence[Export], *, every_s: float = EVERY_S, hangs_s: float = HANGS_S) -> None:
        self.unreadable: dict[str, str] = {}
        self._exports = exports
        self._every_s = every_s
        self._hangs_s = hangs_s
        self._looking: dict[str, asyncio.Future[None]] = {}
        self._stopping = False

    def stop(self) -> None:
        """We are about to end: whoever asks from now on is to go elsewhere."""
        self._stopping = True

    async def look(self) -> bool:
        """Look now; whether every export can be read."""
        for export in self._exports:
            why = await self._why_not(export)
            before = self.unreadable.get(export.name)
            if why is not None:
                self.unreadable[export.name] = why
                if before is None:
                    log.warning("an export cannot be read", extra=fields(export=export.name, why=why))
            elif before is not None:
                del self.unreadable[export.name]
                log.info("an export can be read again", extra=fields(export=export.name))
        return not self.unreadable

    async def _why_not(self, export: Export) -> str | None:
        storage = export.storage
        if not isinstance(storage, DirectoryStorage):
            return None
        try:
            await self._check(export.name, storage)
        except TimeoutError:
            return f"{storage.path} does not answer"
        except OSError as error:
            if error.errno == errno.ESTALE and storage.reopen():
                log.warning("an exported directory was made anew", extra=fields(export=export.name, path=storage.path))
                return None
            gone = error.errno in (errno.ESTALE, errno.ENOENT)
            return f"{storage.path}: {'no longer there' if gone else os.strerror(error.errno or errno.EIO)}"
        return None

    async def _check(self, name: str, storage: DirectoryStorage) -> None:
        """In a thread, for a file system may hang; one thread each, however long it does."""
        looking = self._looking.get(name)
        if looking is None:
            looking = asyncio.get_running_loop().run_in_executor(None, storage.check_readable)
            self._looking[name] = looking
            looking.add_done_callback(lambda done: self._looked(name, done))
        # Not wait_for: until Python 3.12 it loses a cancellation that comes as the look ends, and the watch goes on.
        async with asyncio.timeout(self._hangs_s):
            await asyncio.shield(looking)

    def _looked(self, name: str, done: asyncio.Future[None]) -> None:
        del self._looking[name]
        if not done.cancelled():
            done.exception()

    async def watch(self, tell: Callable[[bool], Awaitable[None]]) -> None:
        """Look for ever; ``tell`` is awaited with every change, and is taken to believe that all is well."""
        well = True
        while True:
            now = await self.look()
            if now != well:
                well = now
                await tell(well)
            await asyncio.sleep(self._every_s)

    def page(self) -> Page:
        """``/healthz``: 200 and ok, or 503 and what is wrong."""
        if self._stopping:
            return text_page("stopping\n", status=HTTPStatus.SERVICE_UNAVAILABLE)
        if not self.unreadable:
            return text_page("ok\n")
        text = "".join(f"export {name}: {why}\n" for name, why in sorted(self.unreadable.items()))
        return text_page(text, status=HTTPStatus.SERVICE_UNAVAILABLE)
