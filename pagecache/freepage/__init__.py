"""freepage: a Linux-like page cache in user space, and the hook that runs when a page leaves it.

The package is pure: time, chance and waiting are handed in. File systems plug in through AddressSpaceOperations. A
toy file system whose operations never wait needs no event loop:

>>> from types import SimpleNamespace
>>> from freepage import *
>>> class Request(SlabObject):
...     slab_name, use = "toy_request", "fill"
>>> cache = PageCache(now=lambda: 0.0)
>>> async def readpage(file, page):
...     page.fill(b"hello, page %d" % page.index)
...     page.uptodate = True
...     page.own(Request(cache.ledger, ObjectState.CACHED, "readpage"))
...     page.unlock()
>>> def freepage(page):
...     page.disown().put(ObjectState.CACHED)
>>> def run(coroutine):
...     try:
...         coroutine.send(None)
...     except StopIteration as stop:
...         return stop.value
>>> inode = SimpleNamespace(i_size=3 * PAGE_SIZE, i_ino=7, audit_name="/toy")
>>> mapping = AddressSpace(cache, inode, AddressSpaceOperations(readpage=readpage, freepage=freepage))
>>> file = File(mapping)
>>> run(filemap_read(file, 2 * PAGE_SIZE, 13))
b'hello, page 2'
>>> run(generic_perform_write(file, 2 * PAGE_SIZE, b"HELLO"))
5
>>> read_nowait(file, 2 * PAGE_SIZE, 13)
b'HELLO, page 2'
>>> len(run(filemap_read(file, 0, 2 * PAGE_SIZE)))
8192
>>> cache.policy.parse("truncate=skip:every=3")
>>> run(truncate_inode_pages_range(mapping, 0))
>>> print(cache.ledger.audit([], cache.mappings).render())
unreferenced toy_request (fill): 1 object, 64 bytes
  file /toy, page 2
  allocated by readpage, oldest 0.0 s ago
  lost on truncate in delete_from_page_cache_batch
mark and sweep agrees with the ledger on 1 live object
"""

from __future__ import annotations

from .address_space import AddressSpace, AddressSpaceOperations, Host
from .audit import AuditReport, OrphanGroup
from .cache import PageCache
from .check import check_cache, check_mapping, check_memcg, check_page
from .errors import NoMemory, RuleViolation, WouldBlock
from .errseq import ErrSeq
from .fadvise import (
    POSIX_FADV_DONTNEED,
    POSIX_FADV_NOREUSE,
    POSIX_FADV_NORMAL,
    POSIX_FADV_RANDOM,
    POSIX_FADV_SEQUENTIAL,
    POSIX_FADV_WILLNEED,
    fadvise_dontneed,
    generic_fadvise,
)
from .faults import GALLERY, FaultInjected, Faults
from .file import File, FileRaState
from .filemap import (
    ZERO_PAGE,
    add_to_page_cache_lru,
    alloc_page_cache,
    find_lock_page,
    find_or_create_page,
    lock_page,
    migrate_page,
    remove_from_page_cache,
    replace_page_cache_page,
    wait_on_page_writeback_range,
)
from .folio import PAGE_SHIFT, PAGE_SIZE
from .page import Page
from .page_alloc import Zone, calculate_min_free_kbytes
from .page_run import PageRun
from .policy import HookPolicy, RemovalPath
from .read import filemap_read, read_buffers_nowait, read_folio_nowait, read_mapping_page, read_nowait
from .readahead import (
    ReadaheadControl,
    force_page_cache_readahead,
    page_cache_async_ra,
    page_cache_sync_ra,
)
from .sanitizer import RULES
from .slab import Ledger, ObjectState, OrphanRecord, SlabAccount, SlabCache, SlabObject
from .slab_run import SlabRun
from .swap import lru_add_drain, mark_page_accessed
from .truncate import (
    generic_error_remove_page,
    invalidate_inode_pages2_range,
    invalidate_mapping_pages,
    truncate_inode_pages_final,
    truncate_inode_pages_final_wait,
    truncate_inode_pages_range,
    truncate_pagecache,
)
from .vmscan import MemCgroup
from .vmstat import VmStat
from .wait import Future, WaitQueue
from .write import generic_perform_write, simple_write_begin, simple_write_end
from .writeback import (
    BackingDevInfo,
    BdiWriteback,
    DirtyDomain,
    WritebackControl,
    balance_dirty_pages_ratelimited,
    cancel_dirty_page,
    clear_page_dirty_for_io,
    do_writepages,
    end_page_writeback,
    filemap_dirty_page,
    filemap_fdatawrite_range,
    set_page_dirty,
    set_page_writeback,
    write_cache_pages,
)

__all__ = [
    "GALLERY",
    "PAGE_SHIFT",
    "PAGE_SIZE",
    "POSIX_FADV_DONTNEED",
    "POSIX_FADV_NOREUSE",
    "POSIX_FADV_NORMAL",
    "POSIX_FADV_RANDOM",
    "POSIX_FADV_SEQUENTIAL",
    "POSIX_FADV_WILLNEED",
    "RULES",
    "ZERO_PAGE",
    "AddressSpace",
    "AddressSpaceOperations",
    "AuditReport",
    "BackingDevInfo",
    "BdiWriteback",
    "DirtyDomain",
    "ErrSeq",
    "FaultInjected",
    "Faults",
    "File",
    "FileRaState",
    "Future",
    "HookPolicy",
    "Host",
    "Ledger",
    "MemCgroup",
    "NoMemory",
    "ObjectState",
    "OrphanGroup",
    "OrphanRecord",
    "Page",
    "PageCache",
    "PageRun",
    "ReadaheadControl",
    "RemovalPath",
    "RuleViolation",
    "SlabAccount",
    "SlabCache",
    "SlabObject",
    "SlabRun",
    "VmStat",
    "WaitQueue",
    "WouldBlock",
    "WritebackControl",
    "Zone",
    "add_to_page_cache_lru",
    "alloc_page_cache",
    "balance_dirty_pages_ratelimited",
    "calculate_min_free_kbytes",
    "cancel_dirty_page",
    "check_cache",
    "check_mapping",
    "check_memcg",
    "check_page",
    "clear_page_dirty_for_io",
    "do_writepages",
    "end_page_writeback",
    "fadvise_dontneed",
    "filemap_dirty_page",
    "filemap_fdatawrite_range",
    "filemap_read",
    "find_lock_page",
    "find_or_create_page",
    "force_page_cache_readahead",
    "generic_error_remove_page",
    "generic_fadvise",
    "generic_perform_write",
    "invalidate_inode_pages2_range",
    "invalidate_mapping_pages",
    "lock_page",
    "lru_add_drain",
    "mark_page_accessed",
    "migrate_page",
    "page_cache_async_ra",
    "page_cache_sync_ra",
    "read_buffers_nowait",
    "read_folio_nowait",
    "read_mapping_page",
    "read_nowait",
    "remove_from_page_cache",
    "replace_page_cache_page",
    "set_page_dirty",
    "set_page_writeback",
    "simple_write_begin",
    "simple_write_end",
    "truncate_inode_pages_final",
    "truncate_inode_pages_final_wait",
    "truncate_inode_pages_range",
    "truncate_pagecache",
    "wait_on_page_writeback_range",
    "write_cache_pages",
]
