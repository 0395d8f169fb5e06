"""ReplacePages of the control service, on a client: the one removal path that NFS never takes by itself."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from freepage import replace_page_cache_page
from freepage_client.nfs.pagelist import own_page

if TYPE_CHECKING:
    from freepage_client.machine import Machine


async def replace_pages(machine: Machine, path: str, first: int, count: int) -> int:
    """Replace the cached clean pages [first, first + count) of a file by pages with the same data; returns how many.

    The new pages own requests of their own, as if they had been filled. Opens the file, so the client revalidates it
    first. Raises OSError.
    """
    task = machine.task()
    try:
        fd = await task.open(path, os.O_RDONLY)
        file = task.files[fd].file
        if file is None:
            raise IsADirectoryError(errno.EISDIR, "only files have pages to replace", path)
        replaced = 0
        for page in file.mapping.resident_range(first, first + count):
            data = page.data
            if page.mapping is not file.mapping or data is None or not page.uptodate:
                continue
            if page.dirty or page.writeback or page.private is not None:
                continue
            try:
                new = await replace_page_cache_page(page, bytes(data))
            except OSError:
                continue  # it became busy, or left, while we waited for its lock
            own_page(new, file.inode, file.context.cred, "replace")
            replaced += 1
        return replaced
    finally:
        await task.exit()
