"""The directory .freepage at the root of a mount: the kernel's files about the emulated client, and its levers.

It is found by name but not listed, so that programs which walk the tree do not meet it. What a file says is made when
it is opened and stays so for that opener; its size is given as 0, as in /proc. Writing is for root and for who mounted.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freepage_client.io.fuse import abi
from freepage_client.io.fuse.abi import Op, dirent_size, pack_dirent
from freepage_client.io.fuse.session import Answer, Handler, Request
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.mountstats import render_mountstats
from freepage_runtime import procfs

if TYPE_CHECKING:
    from freepage import SlabObject
    from freepage_client.machine import Machine

NAME = b".freepage"
VIRTUAL = 1 << 62
"""Nodes and file handles from here on are the virtual directory's."""

MAX_ACCESS_LINES = 10_000
"""What a reader of the access log may fall behind; older lines are dropped."""

_pack_entry = abi.ENTRY_OUT.pack
_pack_attr = abi.ATTR_OUT.pack


@dataclass(slots=True)
class File:
    """``read`` makes the contents, ``write`` takes a line; None where that is not allowed."""

    read: Callable[[], str] | None = None
    write: Callable[[str], Coroutine[Any, Any, None]] | None = None
    log: bool = False


Tree = dict[bytes, "File | Tree"]


class AccessLog:
    """Who asked for what, while somebody reads it."""

    def __init__(self) -> None:
        self._readers: dict[int, deque[str]] = {}
        self._waiters: list[asyncio.Future[None]] = []

    def open(self, fh: int) -> None:
        self._readers[fh] = deque(maxlen=MAX_ACCESS_LINES)

    def close(self, fh: int) -> None:
        self._readers.pop(fh, None)

    @property
    def wanted(self) -> bool:
        return bool(self._readers)

    def add(self, line: str) -> None:
        for lines in self._readers.values():
            lines.append(line)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def read(self, fh: int, size: int) -> bytes:
        """The next lines; waits for one."""
        lines = self._readers[fh]
        while not lines:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        out = bytearray()
        while lines and len(out) + len(lines[0].encode()) <= size:
            out += lines.popleft().encode()
        return bytes(out)


class _Open:
    __slots__ = ("data", "node")

    def __init__(self, node: int, data: bytes) -> None:
        self.node = node
        self.data = data


class VirtualDirectory:
    """Serves the requests for its nodes, of which there are few, numbered once and for all."""

    def __init__(self, machine: Machine, owner: tuple[int, int]) -> None:
        self._machine = machine
        self._owner = owner
        self._born_s = int(time.time())
        self.access_log = AccessLog()
        self._report = "no scan yet: echo scan > kmemleak\n"
        self._cleared: set[SlabObject] = set()
        tree: Tree = {
            b"proc": {
                b"self": {b"mountstats": File(lambda: render_mountstats(machine.mounts, machine.clock.now()))},
                b"slabinfo": File(lambda: procfs.slabinfo(machine.cache.ledger)),
                b"meminfo": File(lambda: procfs.meminfo(machine.cache)),
                b"vmstat": File(lambda: procfs.vmstat(machine.cache)),
            },
            b"kmemleak": File(lambda: self._report, self._kmemleak),
            b"accesslog": File(log=True),
            b"dmesg": File(lambda: "".join(f"{line}\n" for line in machine.messages)),
            b"hooks": File(self._hooks, self._set_hooks),
            b"drop_caches": File(None, self._drop_caches),
        }
        self._nodes: list[tuple[File | Tree, int]] = []
        """What each node is, and its parent's number."""
        self._numbers: dict[tuple[int, bytes], int] = {}
        self._number(tree, 0)
        self._files: dict[int, _Open] = {}
        self._last_fh = VIRTUAL
        self.handlers: dict[int, Callable[[Request, memoryview], Any]] = {
            Op.LOOKUP: self._lookup,
            Op.FORGET: lambda request, body: None,
            Op.GETATTR: lambda request, body: _pack_attr(0, 0, 0, *self._attr(request.nodeid)),
            Op.SETATTR: self._setattr,
            Op.ACCESS: self._access,
            Op.OPEN: self._open,
            Op.READ: self._read,
            Op.WRITE: self._write,
            Op.FLUSH: lambda request, body: b"",
            Op.FSYNC: lambda request, body: b"",
            Op.FSYNCDIR: lambda request, body: b"",
            Op.RELEASE: self._release,
            Op.OPENDIR: self._opendir,
            Op.READDIR: self._readdir,
            Op.RELEASEDIR: self._release,
            Op.LISTXATTR: lambda request, body: b"" if any(body[:4]) else abi.XATTR_OUT.pack(0, 0),
        }
        for op in (Op.SYMLINK, Op.MKNOD, Op.MKDIR, Op.UNLINK, Op.RMDIR, Op.RENAME, Op.RENAME2, Op.LINK, Op.CREATE):
            self.handlers[op] = _not_permitted

    def route(self, op: int, real: Handler | None) -> Handler:
        """The handler of an operation, for either kind of node. It also writes the access log."""
        virtual = self.handlers[op]
        log = self.access_log

        def handler(request: Request, body: memoryview) -> Any:
            if request.nodeid >= VIRTUAL:
                return virtual(request, body)
            if log.wanted:
                log.add(f"{time.time():.6f} {Op(op).name} node={request.nodeid} uid={request.uid} pid={request.pid}\n")
            assert real is not None
            return real(request, body)

        if op != Op.LOOKUP:
            return handler

        def lookup(request: Request, body: memoryview) -> Any:
            if request.nodeid == abi.ROOT_ID and body[:-1] == NAME:
                return self._entry(VIRTUAL)
            return handler(request, body)

        return lookup

    def _number(self, what: File | Tree, parent: int) -> int:
        number = VIRTUAL + len(self._nodes)
        self._nodes.append((what, parent))
        if isinstance(what, dict):
            for name, child in what.items():
                self._numbers[number, name] = self._number(child, number)
        return number

    def _what(self, nodeid: int) -> File | Tree:
        return self._nodes[nodeid - VIRTUAL][0]

    def _mode(self, nodeid: int) -> int:
        what = self._what(nodeid)
        if isinstance(what, dict):
            return stat.S_IFDIR | 0o555
        if what.log:
            return stat.S_IFREG | 0o400
        return stat.S_IFREG | (0o444 if what.read else 0) | (0o200 if what.write else 0)

    def _attr(self, nodeid: int) -> tuple[int, ...]:
        uid, gid = self._owner
        t = self._born_s
        return (nodeid, 0, 0, t, t, t, 0, 0, 0, self._mode(nodeid), 1, uid, gid, 0, 4096, 0)

    def _entry(self, nodeid: int) -> bytes:
        return _pack_entry(nodeid, 0, 0, 0, 0, 0, *self._attr(nodeid))

    def _allowed(self, request: Request, mask: int) -> bool:
        mode = self._mode(request.nodeid)
        if request.uid in (0, self._owner[0]):
            mode = (mode | mode >> 6) & (7 if stat.S_ISDIR(mode) else 6)
        return not mask & ~mode & 7

    # Requests.

    def _lookup(self, request: Request, body: memoryview) -> Answer:
        number = self._numbers.get((request.nodeid, bytes(body[:-1])))
        if number is None:
            raise os_error(errno.ENOENT)
        return self._entry(number)

    def _setattr(self, request: Request, body: memoryview) -> Answer:
        valid = abi.SETATTR_IN.unpack_from(body)[0]
        if valid & (abi.SET_MODE | abi.SET_UID | abi.SET_GID):
            raise os_error(errno.EPERM)
        return _pack_attr(0, 0, 0, *self._attr(request.nodeid))  # `echo x > file` truncates, and there is nothing

    def _access(self, request: Request, body: memoryview) -> Answer:
        mask, _ = abi.ACCESS_IN.unpack_from(body)
        if not self._allowed(request, mask):
            raise os_error(errno.EACCES)
        return b""

    def _open(self, request: Request, body: memoryview) -> Answer:
        flags, _ = abi.OPEN_IN.unpack_from(body)
        file = self._what(request.nodeid)
        assert isinstance(file, File)
        access = flags & os.O_ACCMODE
        mask = (4 if access != os.O_WRONLY else 0) | (2 if access != os.O_RDONLY else 0)
        if not self._allowed(request, mask):
            raise os_error(errno.EACCES)
        data = file.read().encode("utf-8", "surrogateescape") if file.read is not None and mask & 4 else b""
        fh = self._add(request.nodeid, data)
        if file.log:
            self.access_log.open(fh)
        return abi.OPEN_OUT.pack(fh, abi.OPEN_DIRECT_IO | (abi.OPEN_NONSEEKABLE if file.log else 0), 0)

    def _add(self, nodeid: int, data: bytes) -> int:
        self._last_fh += 1
        self._files[self._last_fh] = _Open(nodeid, data)
        return self._last_fh

    def _read(self, request: Request, body: memoryview) -> Any:
        fh, offset, size, *_ = abi.READ_IN.unpack_from(body)
        file = self._what(request.nodeid)
        if isinstance(file, File) and file.log:
            return self.access_log.read(fh, size)
        return self._files[fh].data[offset : offset + size]

    async def _write(self, request: Request, body: memoryview) -> Answer:
        _, _, size, *_ = abi.WRITE_IN.unpack_from(body)
        text = bytes(body[abi.WRITE_IN.size : abi.WRITE_IN.size + size]).decode("utf-8", "replace")
        file = self._what(request.nodeid)
        if not isinstance(file, File) or file.write is None:
            raise os_error(errno.EINVAL)
        for line in text.split("\n"):
            if line.strip():
                await file.write(line.strip())
        return abi.WRITE_OUT.pack(size, 0)

    def _release(self, request: Request, body: memoryview) -> Answer:
        fh = abi.RELEASE_IN.unpack_from(body)[0]
        self._files.pop(fh, None)
        self.access_log.close(fh)
        return b""

    def _opendir(self, request: Request, body: memoryview) -> Answer:
        return abi.OPEN_OUT.pack(self._add(request.nodeid, b""), 0, 0)

    def _readdir(self, request: Request, body: memoryview) -> Answer:
        _, offset, size, *_ = abi.READ_IN.unpack_from(body)
        number = request.nodeid
        parent = self._nodes[number - VIRTUAL][1]
        entries = [(b".", number, stat.S_IFDIR), (b"..", parent or abi.ROOT_ID, stat.S_IFDIR)]
        entries += [(name, child, self._mode(child)) for (of, name), child in self._numbers.items() if of == number]
        out = b""
        for off, (name, child, mode) in enumerate(entries):
            if off >= offset:
                if len(out) + dirent_size(name) > size:
                    break
                out += pack_dirent(child, off + 1, mode >> 12, name)
        return out

    # What the files do.

    async def _kmemleak(self, word: str) -> None:
        """``scan`` looks for orphans, ``clear`` forgets those that are known (Documentation/dev-tools/kmemleak.rst)."""
        machine = self._machine
        if word == "scan":
            report = machine.cache.ledger.audit(machine.roots_in_use(), machine.cache.mappings)
            text = report.render()
            if self._cleared and report.agrees:
                ledger = machine.cache.ledger
                self._cleared &= ledger.orphan_records.keys()
                text += f"\n{len(self._cleared)} of these objects were known before the last clear"
            self._report = text + "\n"
        elif word == "clear":
            self._cleared = set(machine.cache.ledger.orphan_records)
            self._report = ""
        else:
            raise os_error(errno.EINVAL)

    def _hooks(self) -> str:
        return "".join(f"{path}={rule}\n" for path, rule in self._machine.cache.policy.as_dict().items())

    async def _set_hooks(self, rule: str) -> None:
        try:
            self._machine.cache.policy.parse(rule)
        except ValueError as error:
            self._machine.message(f"hooks: {error}")
            raise os_error(errno.EINVAL) from error

    async def _drop_caches(self, what: str) -> None:
        if what not in ("1", "2", "3"):
            raise os_error(errno.EINVAL)
        await self._machine.drop_caches(int(what))


def _not_permitted(request: Request, body: memoryview) -> Answer:
    raise os_error(errno.EPERM)
