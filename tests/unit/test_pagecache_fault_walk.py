"""Random walks with one fault of the gallery armed: it never goes unseen, and no rule fires before it struck.

Which rule sees it depends on who else holds the page and its objects: test_pagecache_faults has the plain case.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

import freepage as fp
from freepage import PAGE_SIZE, RemovalPath
from freepage.faults import GALLERY, Fault
from pagecache_toyfs import ToyFs, drive, new_cache
from test_pagecache_faults import caught, lookup, migrate

FILES = 3
PAGES = 24
WALKS = 12
STEPS = 80


class Walk:
    """Steps on a few files. The cache is not strict, as in a daemon: damage is counted, and life goes on over it."""

    def __init__(self, kind: type[Fault], seed: int) -> None:
        self.kind = kind
        self.random = random.Random(seed)
        self.fs = ToyFs(new_cache(self.random.randint(20, 60), strict=False), io_pages=8)
        self.cache = self.fs.cache
        self.files = [self.open(number) for number in range(FILES)]
        path = self.random.choice([*RemovalPath, "all", "all", "all"])
        every = self.random.choice([None, None, 2, 5])
        self.cache.faults.set(kind.name, path, every_nth=every, inode=self.random.choice([None, None, "file1"]))

    def open(self, number: int) -> fp.File:
        return fp.File(self.fs.create(f"file{number}", PAGES * PAGE_SIZE))

    def step(self) -> str:
        """One step on a file chosen at random; its name."""
        number = self.random.randrange(FILES)
        action = self.random.choice(ACTIONS)
        action(self, number, self.files[number], self.random.randrange(PAGES))
        return f"{action.__name__} file{number}"

    def read(self, number: int, file: fp.File, start: int) -> None:
        drive(fp.filemap_read(file, start * PAGE_SIZE, self.random.randint(1, PAGES) * PAGE_SIZE))

    def write(self, number: int, file: fp.File, start: int) -> None:
        drive(fp.generic_perform_write(file, start * PAGE_SIZE, bytes(min(3, PAGES - start) * PAGE_SIZE)))

    def write_back(self, number: int, file: fp.File, start: int) -> None:
        drive(fp.do_writepages(file.mapping, fp.WritebackControl(True)))

    def truncate(self, number: int, file: fp.File, start: int) -> None:
        drive(fp.truncate_inode_pages_range(file.mapping, start * PAGE_SIZE))

    def invalidate(self, number: int, file: fp.File, start: int) -> None:
        drive(fp.invalidate_inode_pages2_range(file.mapping, start))

    def drop_caches(self, number: int, file: fp.File, start: int) -> None:
        fp.lru_add_drain(self.cache.memcg)
        self.cache.drop_pagecache()

    def reclaim(self, number: int, file: fp.File, start: int) -> None:
        self.cache.memcg.shrink(start + 1)

    def replace(self, number: int, file: fp.File, start: int) -> None:
        clean = [page for page in file.mapping.resident_range() if page.uptodate and not page.dirty]
        if clean:
            new = drive(fp.replace_page_cache_page(clean[start % len(clean)], bytes(PAGE_SIZE)))
            self.fs.give_request(new, "replace")

    def migrate(self, number: int, file: fp.File, start: int) -> None:
        fp.lru_add_drain(self.cache.memcg)
        if not any(page.refcount for page in file.mapping.resident_range()):
            migrate(self.fs, file.mapping)

    def memory_failure(self, number: int, file: fp.File, start: int) -> None:
        clean = [page for page in file.mapping.resident_range() if not page.dirty]
        if clean:
            page = clean[start % len(clean)]
            assert page.trylock()
            fp.generic_error_remove_page(file.mapping, page)
            page.unlock()

    def evict(self, number: int, file: fp.File, start: int) -> None:
        self.write_back(number, file, start)
        fp.truncate_inode_pages_final(file.mapping)
        self.files[number] = self.open(number)

    def lookup_races_with_truncation(self, number: int, file: fp.File, start: int) -> None:
        self.write_back(number, file, start)
        drive(fp.filemap_read(file, 0, PAGE_SIZE))
        lookup(self.fs, file.mapping)

    def observe(self) -> tuple[bool, set[str]]:
        """(the fault has struck, what an observer sees)."""
        self.cache.faults.run_deferred()
        struck, seen = self.cache.faults.injected()[self.kind.name] > 0, caught(self.fs)
        if struck and not seen:
            fp.lru_add_drain(self.cache.memcg)  # the reference that was dropped was the batch's: missed when it drains
            seen = caught(self.fs)
        return struck, seen


ACTIONS: list[Callable[[Walk, int, fp.File, int], None]] = [
    Walk.read, Walk.read, Walk.read, Walk.write, Walk.write_back, Walk.truncate, Walk.invalidate, Walk.drop_caches,
    Walk.reclaim, Walk.replace, Walk.migrate, Walk.memory_failure, Walk.evict, Walk.lookup_races_with_truncation,
]  # fmt: skip


@pytest.mark.parametrize("kind", list(GALLERY.values()), ids=list(GALLERY))
def test_no_fault_goes_unseen_and_no_rule_fires_without_one(kind: type[Fault]) -> None:
    walks_struck = 0
    for seed in range(WALKS):
        walk = Walk(kind, seed)
        struck = False
        for number in range(STEPS):
            step = walk.step()
            struck, seen = walk.observe()
            story = f"{kind.name}, seed {seed}, step {number} ({step}): seen {seen or 'nothing'}"
            if struck:
                assert seen, story
            else:
                assert not seen, f"{story}: {walk.cache.stories}"
        walks_struck += struck
    assert walks_struck >= WALKS // 4, "the test itself reaches the fault"
