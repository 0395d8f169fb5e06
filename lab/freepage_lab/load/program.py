"""A program on a client host: it does what the steps of a profile say, in system calls, and counts them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import stat
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from freepage_lab.conform.pattern import BLOCK
from freepage_lab.load.content import content
from freepage_lab.load.files import GROWTH, LoadFile, WorkingSet
from freepage_lab.load.profile import Step
from freepage_lab.load.tally import Tally

TMP = "tmp"
CHUNK = 1 << 20
"""The largest write while files are prepared."""


class Program:
    """One task and the files it works on. ``task`` has the calls of ``RemoteTask``; ``now`` is the clock, in seconds.

    OSError is a system call's; ControlError means that the daemon cannot be asked, and that the task is lost.
    """

    def __init__(
        self,
        task: Any,
        sets: Mapping[str, WorkingSet],
        tally: Tally,
        *,
        chance: random.Random,
        now: Callable[[], float],
        verify: bool,
    ) -> None:
        self.task = task
        self.sets = sets
        self.tally = tally
        self.chance = chance
        self._now = now
        self._verify = verify
        self._open: dict[tuple[str, int], int] = {}

    async def call(self, name: str, *arguments: Any, **more: Any) -> Any:
        """One system call, counted with the time it took; one that fails counts as well."""
        method: Callable[..., Awaitable[Any]] = getattr(self.task, name)
        started = self._now()
        try:
            result = await method(*arguments, **more)
        except OSError:
            self.tally.call(name).record(self._now() - started)
            raise
        self.tally.call(name).record(self._now() - started)
        return result

    # --- preparation ------------------------------------------------------------------------------------------------

    async def make_directories(self, path: str) -> None:
        """mkdir -p."""
        missing = []
        while path not in ("", "/"):
            try:
                await self.task.mkdir(path)
                break
            except OSError as error:
                if error.errno == errno.EEXIST:
                    break
                if error.errno != errno.ENOENT:
                    raise
                missing.append(path)
                path = path.rpartition("/")[0]
        for each in reversed(missing):
            with contextlib.suppress(FileExistsError):
                await self.task.mkdir(each)

    async def prepare(self, working_set: WorkingSet, stopped: Callable[[], bool] = lambda: False) -> None:
        """Make the set's directories, and its files if it wants them. Uncounted."""
        for number in range(working_set.directories):
            await self.make_directories(working_set.directory(number))
        if not working_set.set.shared:
            await self.make_directories(f"{working_set.root}/{TMP}")
        if not working_set.set.prepare:
            return
        for file in working_set.files:
            if stopped():
                return
            try:
                await self._fill(file, file.rewritten())
            except OSError as error:
                raise OSError(error.errno, error.strerror, file.path) from error
            file.present, file.certain = True, not file.shared
            self.tally.prepared_files += 1

    async def _fill(self, file: LoadFile, version: int) -> None:
        fd = await self.task.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            for pos in range(0, file.size, CHUNK):
                count = min(CHUNK, file.size - pos)
                await self.task.pwrite(fd, content(file.identity, version, pos, count), pos)
        finally:
            await self.task.close(fd)

    async def remove(self, path: str) -> None:
        """rm -rf. Uncounted."""
        try:
            names = await self.task.listdir(path)
        except FileNotFoundError:
            return
        for raw in names:
            name = os.fsdecode(raw)
            if name in (".", ".."):
                continue
            each = f"{path}/{name}"
            try:
                await self.task.unlink(each)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.EISDIR, errno.EPERM):
                    raise
                await self.remove(each)
        with contextlib.suppress(FileNotFoundError):
            await self.task.rmdir(path)

    # --- steps ------------------------------------------------------------------------------------------------------

    async def do(self, step: Step) -> None:
        """One step. Raises OSError, ControlError or Corrupt."""
        verb = VERBS[step.do]
        for _ in range(self.chance.randint(*step.times)):
            await verb(self, step, self.sets[step.files])

    def pick(self, step: Step, files: WorkingSet, *, present: bool = True) -> LoadFile | None:
        return files.pick(step.pick, self.chance, present=present)

    async def _descriptor(self, file: LoadFile, flags: int, files: WorkingSet) -> int:
        if not files.set.keep_open:
            fd: int = await self.call("open", file.path, flags)
            return fd
        if flags & os.O_ACCMODE == os.O_RDONLY:
            flags |= os.O_RDWR  # one descriptor for reading and writing
        key = (file.path, flags)
        if key not in self._open:
            self._open[key] = await self.call("open", file.path, flags)
        return self._open[key]

    async def _with(
        self, file: LoadFile, flags: int, files: WorkingSet, work: Callable[[int], Awaitable[None]]
    ) -> None:
        """Open, work, close. Close-to-open: a close may fail as a write does, and then the write is in doubt."""
        fd = await self._descriptor(file, flags, files)
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        try:
            await work(fd)
            if not files.set.keep_open:
                await self.call("close", fd)
        except OSError:
            if writes:
                file.certain = False
            self._open.pop((file.path, flags), None)
            with contextlib.suppress(OSError):
                await self.task.close(fd)
            raise

    async def _locked(
        self, fd: int, step: Step, how: int, pos: int, count: int, work: Callable[[], Awaitable[None]]
    ) -> None:
        """``work`` under a record lock, if the step wants one. Raises OSError(EDEADLK) as the call does."""
        if not step.lock:
            return await work()
        await self.call("lockf", fd, how, pos, count)
        try:
            await work()
        finally:
            await self.call("lockf", fd, fcntl.LOCK_UN, pos, count)

    async def read_at(self, fd: int, file: LoadFile, pos: int, count: int) -> int:
        """Bytes read. Raises Corrupt."""
        if not self._verify:
            got: int = await self.call("pread", fd, count, pos, discard=True)
            self.tally.read_bytes += got
            return got
        data: bytes = await self.call("pread", fd, count, pos)
        self.tally.read_bytes += len(data)
        file.check(data, pos, count)
        self.tally.verified_bytes += len(data)
        return len(data)

    async def write_at(self, fd: int, file: LoadFile, version: int, pos: int, count: int) -> None:
        written = await self.call("pwrite", fd, content(file.identity, version, pos, count), pos)
        self.tally.written_bytes += written
        if written != count:
            raise OSError(errno.ENOSPC, "short write", file.path)

    async def write_new(self, path: str, file: LoadFile, version: int, step: Step, files: WorkingSet) -> None:
        """A whole file at ``path`` with the content of ``file``."""

        async def work(fd: int) -> None:
            for pos in range(0, file.size, step.block):
                await self.write_at(fd, file, version, pos, min(step.block, file.size - pos))
            if step.fsync:
                await self.call("fsync", fd)

        fd = await self.call("open", path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            await work(fd)
            await self.call("close", fd)
        except OSError:
            file.certain = False
            with contextlib.suppress(OSError):
                await self.task.close(fd)
            raise

    async def close_kept(self, path: str) -> None:
        """Forget the kept descriptors of a name that is about to mean something else."""
        for key in [key for key in self._open if key[0] == path]:
            await self.call("close", self._open.pop(key))


async def _read(p: Program, step: Step, files: WorkingSet) -> None:
    file = p.pick(step, files)
    if file is None:
        return

    async def work(fd: int) -> None:
        pos = 0
        while count := await p.read_at(fd, file, pos, step.block):
            pos += count
            if pos >= file.size and file.certain:
                break

    await p._with(file, os.O_RDONLY, files, work)


async def _pread(p: Program, step: Step, files: WorkingSet) -> None:
    file = p.pick(step, files)
    if file is None:
        return
    pos = p.chance.randrange(max(-(-file.size // step.block), 1)) * step.block

    async def work(fd: int) -> None:
        async def read() -> None:
            await p.read_at(fd, file, pos, step.block)

        await p._locked(fd, step, fcntl.LOCK_SH, pos, step.block, read)

    await p._with(file, os.O_RDONLY, files, work)


async def _write(p: Program, step: Step, files: WorkingSet) -> None:
    file = p.pick(step, files, present=False)
    if file is None:
        return
    await p.close_kept(file.path)
    version = file.rewritten()
    file.present = True
    await p.write_new(file.path, file, version, step, files)
    file.certain = True


async def _pwrite(p: Program, step: Step, files: WorkingSet) -> None:
    file = p.pick(step, files)
    if file is None:
        return
    pos = p.chance.randrange(max(-(-file.size // step.block), 1)) * step.block
    count = min(step.block, file.size - pos)

    async def work(fd: int) -> None:
        async def write() -> None:
            version = file.changed(pos, count) if not file.shared else p.chance.randrange(1, 1 << 24)
            await p.write_at(fd, file, version, pos, count)
            if step.fsync:
                await p.call("fsync", fd)

        await p._locked(fd, step, fcntl.LOCK_EX, pos, count, write)

    await p._with(file, os.O_RDWR if files.set.keep_open else os.O_WRONLY, files, work)


async def _append(p: Program, step: Step, files: WorkingSet) -> None:
    file = p.pick(step, files, present=False)
    if file is None:
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    if not file.present or not file.certain or file.size >= files.set.size.most * GROWTH:
        await p.close_kept(file.path)
        file.rewritten()
        fd = await p.call("open", file.path, flags | os.O_TRUNC)
        file.size, file.present, file.certain = 0, True, True
        await p.call("close", fd)

    async def work(fd: int) -> None:
        data = content(file.identity, file.base, file.size, step.block)
        written = await p.call("write", fd, data)
        p.tally.written_bytes += written
        if written != step.block:
            raise OSError(errno.ENOSPC, "short write", file.path)
        file.size += written
        if step.fsync:
            await p.call("fsync", fd)

    await p._with(file, flags, files, work)


async def _replace(p: Program, step: Step, files: WorkingSet) -> None:
    file = p.pick(step, files, present=False)
    if file is None:
        return
    await p.close_kept(file.path)
    directory, _, name = file.path.rpartition("/")
    temporary = f"{directory}/.{name}.tmp{p.chance.randrange(1 << 32):08x}"
    old = (file.base, dict(file.blocks), file.certain)
    version = p.chance.randrange(1, 1 << 24) if file.shared else file.rewritten()
    await p.write_new(temporary, file, version, step, files)
    try:
        await p.call("rename", temporary, file.path)
    except OSError:
        file.base, file.blocks, file.certain = old
        raise
    file.present, file.certain = True, not file.shared


async def _make_room(p: Program, files: WorkingSet) -> None:
    if files.full() and (oldest := files.take_oldest()) is not None:
        await p.close_kept(oldest.path)
        await p.call("unlink", oldest.path)


async def _create(p: Program, step: Step, files: WorkingSet) -> None:
    await _make_room(p, files)
    file = files.new()
    await p.write_new(file.path, file, file.rewritten(), step, files)
    file.present = True
    files.add(file)


async def _deliver(p: Program, step: Step, files: WorkingSet) -> None:
    await _make_room(p, files)
    file = files.new()
    temporary = f"{files.root}/{TMP}/{file.path.rpartition('/')[2]}"
    await p.write_new(temporary, file, file.rewritten(), step, files)
    await p.call("link", temporary, file.path)
    await p.call("unlink", temporary)
    file.present = True
    files.add(file)


async def _unlink(p: Program, step: Step, files: WorkingSet) -> None:
    file = files.take_oldest()
    if file is not None:
        await p.close_kept(file.path)
        await p.call("unlink", file.path)


async def _rename(p: Program, step: Step, files: WorkingSet) -> None:
    file = files.take_oldest()
    if file is None:
        return
    await p.close_kept(file.path)
    path = files.new().path
    await p.call("rename", file.path, path)
    file.path = path
    files.add(file)


async def _truncate(p: Program, step: Step, files: WorkingSet) -> None:
    file = p.pick(step, files)
    if file is None:
        return
    half = file.size // 2 // BLOCK * BLOCK

    async def work(fd: int) -> None:
        await p.call("ftruncate", fd, half)
        version = file.changed(half, file.size - half)
        for pos in range(half, file.size, step.block):
            await p.write_at(fd, file, version, pos, min(step.block, file.size - pos))
        if step.fsync:
            await p.call("fsync", fd)

    await p._with(file, os.O_RDWR if files.set.keep_open else os.O_WRONLY, files, work)


async def _stat(p: Program, step: Step, files: WorkingSet) -> None:
    file = p.pick(step, files)
    if file is not None:
        await p.call("stat", file.path)


async def _missing(p: Program, step: Step, files: WorkingSet) -> None:
    """The same names again and again, as an include path is searched: negative dentries."""
    directory = files.directory(p.chance.randrange(files.directories))
    with contextlib.suppress(FileNotFoundError):
        await p.call("stat", f"{directory}/no-such-{p.chance.randrange(32)}")


async def _names(p: Program, directory: str) -> list[str]:
    fd = await p.call("open", directory, os.O_RDONLY | os.O_DIRECTORY)
    names = []
    while entries := await p.call("getdents", fd):
        names += [os.fsdecode(name) for name, *_ in entries]
    await p.call("close", fd)
    return [name for name in names if name not in (".", "..")]


async def _list(p: Program, step: Step, files: WorkingSet) -> None:
    await _names(p, files.directory(p.chance.randrange(files.directories)))


async def _walk(p: Program, step: Step, files: WorkingSet) -> None:
    directory = files.directory(p.chance.randrange(files.directories))
    for name in await _names(p, directory):
        with contextlib.suppress(FileNotFoundError):  # another program has removed it since
            found = await p.call("lstat", f"{directory}/{name}")
            assert not stat.S_ISDIR(found.st_mode), f"{directory}/{name} is a directory"


VERBS: dict[str, Callable[[Program, Step, WorkingSet], Awaitable[None]]] = {
    "read": _read,
    "pread": _pread,
    "write": _write,
    "pwrite": _pwrite,
    "append": _append,
    "replace": _replace,
    "create": _create,
    "deliver": _deliver,
    "unlink": _unlink,
    "rename": _rename,
    "truncate": _truncate,
    "stat": _stat,
    "missing": _missing,
    "list": _list,
    "walk": _walk,
}
"""The verbs of `profile.FILE_VERBS`."""
