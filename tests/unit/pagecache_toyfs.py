"""A toy file system and a toy scheduler, for the page cache's tests: no event loop, no clock, every step by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import freepage as fp
from freepage import PAGE_SIZE, ObjectState, Page, SlabRun
from freepage.slab import IN_USE


class ToyFuture:
    """What a suspended task waits for."""

    def __init__(self) -> None:
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, result: None, /) -> None:
        self._done = True

    def __await__(self) -> Generator[Any, None, None]:
        while not self._done:
            yield self


class ToyTask:
    """A coroutine and the future it waits for."""

    def __init__(self, name: str, coro: Coroutine[Any, Any, Any]) -> None:
        self.name = name
        self.coro = coro
        self.waits_for: ToyFuture | None = None
        self.finished = False
        self.result: Any = None
        self.error: BaseException | None = None

    def step(self) -> None:
        try:
            self.waits_for = self.coro.send(None)
        except StopIteration as stop:
            self.finished, self.result = True, stop.value
        except Exception as error:
            self.finished, self.error = True, error


class ToyScheduler:
    """Runs tasks until all are finished or wait for a future that nobody has resolved yet."""

    def __init__(self) -> None:
        self.tasks: list[ToyTask] = []

    def spawn(self, name: str, coro: Coroutine[Any, Any, Any]) -> ToyTask:
        task = ToyTask(name, coro)
        self.tasks.append(task)
        task.step()
        self.run()
        return task

    def run(self) -> None:
        progress = True
        while progress:
            progress = False
            for task in self.tasks:
                while not task.finished and task.waits_for is not None and task.waits_for.done():
                    progress = True
                    task.step()
            self.tasks = [task for task in self.tasks if not task.finished]


def drive(coro: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never has to wait."""
    try:
        coro.send(None)
    except StopIteration as stop:
        return stop.value
    coro.close()
    raise AssertionError("the coroutine waits for something")


class Credential(fp.SlabObject):
    slab_name = "rpc_cred"
    objsize = 96


class FillRequest(fp.SlabObject):
    slab_name = "nfs_page"
    use = "fill"
    objsize = 128


class ToyInode:
    """The host of a mapping; `data` is what the disk holds."""

    def __init__(self, name: str, size: int, ino: int = 1) -> None:
        self.audit_name = name
        self.i_size = size
        self.i_ino = ino
        self.data = bytearray(size)

    def block(self, index: int) -> bytes:
        base = index * PAGE_SIZE
        return bytes(self.data[base : base + PAGE_SIZE])


class ToyFs:
    """Files in memory behind a page cache. `deferred`: I/O stays in `pending` until the test completes it."""

    def __init__(self, cache: fp.PageCache, *, deferred: bool = False, io_pages: int = 0, ra_pages: int = 32) -> None:
        self.cache = cache
        self.deferred = deferred
        self.pending: list[Callable[[], None]] = []
        self.reads: list[tuple[int, int]] = []
        """(index, pages) of each ->readahead or ->readpage"""
        self.written: list[int] = []
        self.hooked: Counter[Page] = Counter()
        """how often the hook saw each page"""
        self.fail_reads: set[int] = set()
        self.refuse_readahead = False
        self.cred = Credential(cache.ledger, ObjectState.IN_USE, "mount")
        self.bdi = fp.BackingDevInfo("toy", domain=cache.dirty, ra_pages=ra_pages, io_pages=io_pages)
        self.a_ops = fp.AddressSpaceOperations(
            readpage=self.readpage,
            readahead=self.readahead,
            writepage=self.writepage,
            write_end=self.write_end,
            freepage=self.freepage,
            releasepage=self.releasepage,
            invalidatepage=self.invalidatepage,
            launder_page=self.launder_page,
        )

    def create(self, name: str, size: int) -> fp.AddressSpace:
        return fp.AddressSpace(self.cache, ToyInode(name, size), self.a_ops, self.bdi)

    def submit(self, completion: Callable[[], None]) -> None:
        if self.deferred:
            self.pending.append(completion)
        else:
            completion()

    def complete(self, at: int = 0) -> None:
        self.pending.pop(at % len(self.pending))()

    # -- operations ----------------------------------------------------------------------------------------------

    def fill(self, page: Page) -> None:
        mapping = page.mapping
        assert mapping is not None
        host = mapping.host
        assert isinstance(host, ToyInode)
        if page.index in self.fail_reads:
            page.error = True
        else:
            page.fill(host.block(page.index))
            page.uptodate = True
            self.give_request(page, "read")
        page.unlock()

    def give_request(self, page: Page, site: str) -> None:
        if not page.owns:
            request = FillRequest(self.cache.ledger, ObjectState.CACHED, site)
            request.hold(self.cred)
            page.own(request)

    async def write_end(
        self, file: fp.File, mapping: fp.AddressSpace, pos: int, length: int, copied: int, page: Page
    ) -> int:
        self.give_request(page, "write")
        return await fp.simple_write_end(file, mapping, pos, length, copied, page)

    async def readpage(self, file: fp.File, page: Page) -> None:
        self.reads.append((page.index, 1))
        self.submit(lambda: self.fill(page))

    async def readpage_bare(self, file: fp.File, page: Page) -> None:
        """A readpage for tables without freepage: the page owns nothing."""
        page.fill(bytes(PAGE_SIZE))
        page.uptodate = True
        page.unlock()

    def readahead(self, rac: fp.ReadaheadControl) -> None:
        if self.refuse_readahead:
            return
        self.reads.append((rac.index, rac.nr_pages))
        pages = rac.take()

        def done() -> None:
            for page in pages:
                self.fill(page)

        self.submit(done)

    async def writepage(self, page: Page, wbc: fp.WritebackControl) -> None:
        mapping = page.mapping
        assert mapping is not None and page.locked and not page.dirty
        host = mapping.host
        assert isinstance(host, ToyInode)
        fp.set_page_writeback(page)
        page.unlock()
        self.written.append(page.index)

        def done() -> None:
            base = page.index * PAGE_SIZE
            data = page.writable()[: max(min(PAGE_SIZE, host.i_size - base), 0)]
            if len(host.data) < base + len(data):
                host.data.extend(bytes(base + len(data) - len(host.data)))
            host.data[base : base + len(data)] = data
            fp.end_page_writeback(page)

        self.submit(done)

    def freepage(self, page: Page) -> None:
        self.hooked[page] += 1
        owned = page.disown()
        if owned is not None:
            owned.put(ObjectState.CACHED)

    def releasepage(self, page: Page) -> bool:
        return False

    def invalidatepage(self, page: Page, offset: int, length: int) -> None:
        if offset == 0 and length == PAGE_SIZE and page.private is not None:
            page.private = None
            page.put()

    async def launder_page(self, page: Page) -> None:
        fp.clear_page_dirty_for_io(page)
        page.locked = True
        await self.writepage(page, fp.WritebackControl(True))
        await page.lock()
        await page.wait_writeback()


def new_cache(limit_pages: int | None = None, *, other_pages: int = 0, strict: bool = True, **kw: Any) -> fp.PageCache:
    """A strict cache at time 0, whose waiting tasks get ToyFutures."""
    memcg = fp.MemCgroup(limit_pages, other_pages=other_pages)
    return fp.PageCache(now=lambda: 0.0, create_future=ToyFuture, memcg=memcg, strict=strict, **kw)


class RunFs(ToyFs):
    """A toy file system that fills runs, as the NFS client does.

    Its replies begin with `head` bytes that are nobody's, and end `short` bytes early.
    """

    head = 118
    short = 0

    def readahead(self, rac: fp.ReadaheadControl) -> None:
        self.reads.append((rac.index, rac.nr_pages))
        host = rac.mapping.host
        assert isinstance(host, ToyInode)
        pos, end = rac.pos, rac.pos + rac.length - self.short
        data = b"\xff" * self.head + host.data[pos:end]
        for run in rac.take_runs():
            run.fill(data, self.head + (run.index * PAGE_SIZE) - pos)
            run.own(SlabRun(self.cache.ledger, FillRequest, run.nr, self.cred, IN_USE, "read"))
            run.mark_uptodate_and_unlock()
