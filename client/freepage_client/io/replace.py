"""What happens to cached pages behind a file's back, on a client: replacement, migration, bad memory.

NFS does none of this by itself. In Linux FUSE replaces pages, compaction migrates them, and memory_failure takes away
those whose memory is bad.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from freepage import AddressSpace, Page, generic_error_remove_page, migrate_page, replace_page_cache_page
from freepage_client.nfs.pagelist import own_page

if TYPE_CHECKING:
    from freepage_client.machine import Machine
    from freepage_client.nfs.file import NfsFile


async def change_pages(machine: Machine, path: str, first: int, count: int, change: str) -> int:
    """Do ``replace``, ``migrate`` or ``poison`` to the cached clean pages [first, first + count) of a file.

    Returns how many it was done to. Opens the file, so the client revalidates it first. Raises OSError.
    """
    task = machine.task()
    try:
        fd = await task.open(path, os.O_RDONLY)
        file = task.files[fd].file
        if file is None:
            raise IsADirectoryError(errno.EISDIR, "only files have pages to replace", path)
        changed = 0
        for page in file.mapping.resident_range(first, first + count):
            if page.mapping is not file.mapping or page.data is None or not page.uptodate:
                continue
            if page.dirty or page.writeback or page.private is not None:
                continue
            try:
                if change == "replace":
                    await _replace(file, page)
                else:
                    _while_locked(file.mapping, page, change)
            except OSError:
                continue  # it became busy, or left, while we waited for its lock
            changed += 1
        return changed
    finally:
        await task.exit()


async def _replace(file: NfsFile, page: Page) -> None:
    """The new page owns a request of its own, as if it had been filled."""
    assert page.data is not None
    new = await replace_page_cache_page(page, bytes(page.data))
    own_page(new, file.inode, file.context.cred, "replace")


def _while_locked(mapping: AddressSpace, page: Page, change: str) -> None:
    if not page.trylock():
        raise OSError(errno.EBUSY, "page is locked")
    try:
        if change == "migrate":
            migrate_page(page).unlock()
        else:
            generic_error_remove_page(mapping, page)
    finally:
        page.unlock()
