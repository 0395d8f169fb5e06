"""Writing through the cache (generic_perform_write of mm/filemap.c, the simple operations of fs/libfs.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .filemap import find_or_create_page
from .folio import PAGE_SHIFT, PAGE_SIZE
from .page import Page
from .read import read_page
from .writeback import balance_dirty_pages_ratelimited, set_page_dirty

if TYPE_CHECKING:
    from .address_space import AddressSpace
    from .file import File


async def generic_perform_write(file: File, pos: int, data: bytes | bytearray | memoryview) -> int:
    """Write through the cache, page by page (generic_perform_write). Returns the bytes written.

    An error after the first page makes the write short; OSError if it struck the first one. Written pages are not
    marked accessed. A table without write_begin and write_end gets the simple ones of fs/libfs.c.
    """
    mapping = file.mapping
    a_ops = mapping.a_ops
    write_begin = a_ops.write_begin or simple_write_begin
    write_end = a_ops.write_end or simple_write_end
    view = memoryview(data)
    written = 0
    while written < len(view):
        offset = pos & (PAGE_SIZE - 1)
        length = min(PAGE_SIZE - offset, len(view) - written)
        try:
            page = await write_begin(file, mapping, pos, length)
            page.writable()[offset : offset + length] = view[written : written + length]
            copied = await write_end(file, mapping, pos, length, length, page)
        except OSError:
            if written:
                break
            raise
        pos += copied
        written += copied
        await balance_dirty_pages_ratelimited(mapping)
    return written


async def simple_write_begin(file: File, mapping: AddressSpace, pos: int, length: int) -> Page:
    """Grab the page; read it first if it has data that the write does not cover."""
    index = pos >> PAGE_SHIFT
    while True:
        page = await find_or_create_page(mapping, index)
        if page.uptodate or length == PAGE_SIZE:
            return page
        if index << PAGE_SHIFT >= mapping.host.i_size or mapping.a_ops.readpage is None:
            page.writable()
            page.uptodate = True
            return page
        await read_page(file, page)


async def simple_write_end(file: File, mapping: AddressSpace, pos: int, length: int, copied: int, page: Page) -> int:
    """The page is uptodate and dirty; the file may have grown. Unlocks the page."""
    page.uptodate = True
    if pos + copied > mapping.host.i_size:
        mapping.host.i_size = pos + copied
    set_page_dirty(page)
    page.unlock()
    return copied
