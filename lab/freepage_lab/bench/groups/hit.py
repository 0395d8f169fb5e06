"""Reads that the page cache answers, beside the kernel answering the same reads from its own."""

from __future__ import annotations

import ast
import inspect
import os
import random
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from freepage import PAGE_SIZE, File, read_nowait
from freepage_lab.bench.groups.toyfs import FOLIO, ToyFs
from freepage_lab.bench.measure import per_item_ns
from freepage_lab.bench.row import Bench, Plan, Sides
from freepage_runtime.malloc import keep_large_blocks

Read = Callable[[File, int, int], bytes | None]

PEER = "os.preadv of a cached file"


def benches() -> list[Bench]:
    def bench(name: str, floor: float, size: int, random: bool = False) -> Bench:
        return Bench("hit", name, PEER, "ns/read", floor, partial(_beside_preadv, size, random))

    return [
        bench("4 KiB, sequential, of 100,000 pages", 0.70, PAGE_SIZE),
        bench("4 KiB, random, of 100,000 pages", 0.60, PAGE_SIZE, random=True),
        bench("64 KiB", 0.85, 64 << 10),
        bench("1 MiB", 0.90, 1 << 20),
        Bench("hit", "counters' share of a 4 KiB hit", "limit of 8 %", "%", 1, _counters_share, limit=8.0),
    ]


@contextmanager
def _beside_preadv(size: int, scattered: bool, plan: Plan) -> Iterator[Sides]:
    keep_large_blocks()  # as the daemons do: a read of 1 MiB would be given fresh zeroed pages each time
    file_size = plan.size(100_000 * PAGE_SIZE, 64 * PAGE_SIZE) // size * size or size
    contents = random.Random(1).randbytes(1 << 20) * -(-file_size // (1 << 20))
    positions = list(range(0, file_size, size))
    if scattered:
        random.Random(2).shuffle(positions)
    fs = ToyFs(file_size, contents=contents, folio=max(FOLIO, size))
    fs.read_in()
    file = fs.file
    with tempfile.TemporaryFile() as on_disk:
        on_disk.write(memoryview(contents)[:file_size])
        on_disk.flush()
        fd, buffers = on_disk.fileno(), [bytearray(size)]
        preadv, read = os.preadv, read_nowait

        def ours() -> None:
            for pos in positions:
                read(file, pos, size)

        def beside() -> None:
            for pos in positions:
                preadv(fd, buffers, pos)

        # What is compared is the same: every byte, once.
        for pos in positions:
            preadv(fd, buffers, pos)
            assert read(file, pos, size) == bytes(buffers[0]), f"at {pos}"
        yield Sides(partial(per_item_ns, len(positions), ours), partial(per_item_ns, len(positions), beside))


def _counters_share(plan: Plan) -> AbstractContextManager[Sides]:
    return _share_of_counters(plan, read_nowait, without_counters(read_nowait))


@contextmanager
def _share_of_counters(plan: Plan, counting: Read, plain: Read) -> Iterator[Sides]:
    """Both in small portions, in turn: the difference is a few dozen nanoseconds of several hundred."""
    fs = ToyFs(plan.size(1024, 16) * PAGE_SIZE)
    fs.read_in()
    file = fs.file
    positions = list(range(0, fs.mapping.host.i_size, PAGE_SIZE))

    def cost(read: Read) -> int:
        start_ns = time.thread_time_ns()
        for pos in positions:
            read(file, pos, PAGE_SIZE)
        return time.thread_time_ns() - start_ns

    def share() -> float:
        with_them = without = 0
        for turn in range(plan.size(100, 2)):
            if turn % 2:
                with_them += cost(counting)
                without += cost(plain)
            else:
                without += cost(plain)
                with_them += cost(counting)
        return 100 * (with_them - without) / with_them

    yield Sides(share)


def without_counters(function: Read) -> Read:
    """The same function, made again from its source without the statements that count (``something.counter += n``)."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    stripped = _StripCounters()
    tree = ast.fix_missing_locations(stripped.visit(tree))
    if not stripped.found:
        raise AssertionError(f"{function.__name__} counts nothing, or not in the way that we look for")
    names: dict[str, Any] = dict(function.__globals__)
    exec(compile(tree, inspect.getsourcefile(function) or "", "exec"), names)
    made: Read = names[function.__name__]
    return made


class _StripCounters(ast.NodeTransformer):
    def __init__(self) -> None:
        self.found = 0

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        """A count is kept in an attribute or an item; ``pos += n`` is arithmetic."""
        if isinstance(node.op, ast.Add) and isinstance(node.target, ast.Attribute | ast.Subscript):
            self.found += 1
            return ast.Pass()
        return node
