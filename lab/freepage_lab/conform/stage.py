"""Puts a workload on stage: a server with the set-up done, clients A and B with their mounts, and somebody who takes
notes.

What the recordings' machine was is here: 3 GiB of memory shared by both clients and the server, one memory cgroup
over both clients if the workload asks for one, mounts made A first with 50 ms between, checkpoints that settle for 50
ms, are read, and then take as long as the recording says they took.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from freepage import DirtyDomain, MemCgroup, lru_add_drain
from freepage_lab.conform.compare import MOUNT_LABEL, ClientObservation, Observation
from freepage_lab.conform.executor import Caller, Executor, Result
from freepage_lab.conform.exported import ExportedFileSystem
from freepage_lab.conform.language import SERVER, Step, Workload
from freepage_lab.conform.memory import BASE_PAGES, MallocHeap, TreeNodes
from freepage_lab.conform.recorder import NameBook, RecordingNetwork, counters_of, named_io, page_states
from freepage_runtime.clock import Clock

if TYPE_CHECKING:
    from freepage_client.machine import Machine
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.transport import Network
    from freepage_client.vfs.task import Task
    from freepage_proto.rpc import Procedure
    from freepage_server.nfsd.local import LocalTask
    from freepage_server.nfsd.server import NfsServer

PAGE_SHIFT, PAGE_SIZE = 12, 4096
MEMORY_BYTES = 3 << 30
SETTLE_S = 0.05
DROP_PAGES_S = 0.009
"""What dropping the page cache took on the recordings' machine; slab objects alone took no time to speak of."""
AFTER_SETUP_S = 1.0
"""Set-up ends at least this long before mounting, so that its timestamps are no "recent" change to the clients."""
AFTER_SYNC_S = 0.1
SYNCED_PAGES = 8
"""Directories, inodes and bitmaps, which the sync after set-up writes (any number from 2 to 16 gives the same). With it
begin the periods in which completed writeback is counted."""
DEFAULT_CHECKPOINT_MS = 30
DIRTYABLE_PAGES = 663_500
"""Free and file pages of its 3 GiB: traces of it show a dirty threshold of 132,700 pages, which is 20 %."""
BOOT_DIRTY_LIMIT_PAGES = 12288
"""What the recordings' machine took for the dirty limit since it booted: a fifth of the memory that was there so early.
Between 8192 and 16383, for its flusher wrote chunks of 2048 pages."""
LAST_LABEL = "end"
"""The implicit checkpoint of a script that does not end in one."""


class Venue(Protocol):
    """Where the play takes place: in simulation, or over real gRPC."""

    @property
    def clock(self) -> Clock: ...
    @property
    def server(self) -> NfsServer: ...
    @property
    def source(self) -> str:
        """What clients mount: SERVER:/EXPORT."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass for everybody; what the script does costs no time but that of its RPCs."""
        ...

    def local_task(self) -> LocalTask: ...
    def network(self, hostname: str) -> Network: ...


class Stage:
    """One workload's run. After :meth:`play`: ``observations``, ``results``, and ``left_over`` after unmounting.

    A run that breaks down leaves what it had seen until then, and raises.
    """

    def __init__(self, workload: Workload, truth: Mapping[str, Any], venue: Venue, *, seed: int = 0) -> None:
        self.observations: list[Observation] = []
        self.results: list[Result] = []
        self.left_over: list[str] = []
        self._workload = workload
        self._pauses_s = checkpoint_pauses(truth)
        self._venue = venue
        self._seed = seed
        self._local = venue.local_task()
        self._names = NameBook()
        self._directories: set[int] = set()
        self._machines: dict[str, Machine] = {}
        self._tasks: dict[str, Task] = {}
        self._wires: dict[str, RecordingNetwork] = {}
        self._counters: dict[str, Counter[str]] = {}
        self._exported = ExportedFileSystem()
        self._memcg = MemCgroup()
        self._heap = MallocHeap()
        self._nodes = TreeNodes()

    async def play(self) -> None:
        await self.set_up()
        await self._mount()
        callers: dict[str, Caller] = {**self._tasks, SERVER: self._local}
        self._exported.changed(self._venue.clock.now())  # by the set-up, which ends in a sync
        self._exported.journal_committed(self._venue.clock.now())
        roots = {**{client: mount_point(client) for client in self._tasks}, SERVER: ""}
        executor = Executor(self, callers, roots)
        await executor.run(self._workload.steps, self._note_result)
        if self._workload.steps[-1].op != "checkpoint":
            await self.checkpoint(LAST_LABEL)
        await executor.close_descriptors()
        await self._unmount()

    async def set_up(self) -> None:
        """What the workload finds: made on the server itself, written out, and dropped from its cache."""
        setup = Executor(_SetUpMachine(self._venue), {SERVER: self._local}, {SERVER: ""})
        for step, result in zip(self._workload.setup, await setup.run(self._workload.setup), strict=True):
            if isinstance(result, str) and result.startswith("!"):
                raise RuntimeError(f"set-up step {step.op} failed: {result}")
        await setup.close_descriptors()
        await self._venue.sleep(AFTER_SETUP_S)
        await self._venue.server.sync()
        for _ in range(SYNCED_PAGES):
            self._venue.server.cache.dirty.completed(self._venue.server.files.bdi)
        await self._venue.server.drop_caches()
        await self._venue.sleep(AFTER_SYNC_S)

    async def _mount(self) -> None:
        from freepage_client.machine import Machine

        environment = self._workload.environment
        dirty = self._venue.server.cache.dirty  # it is one machine
        dirty.dirtyable_pages = DIRTYABLE_PAGES
        dirty.dirty_limit = BOOT_DIRTY_LIMIT_PAGES
        for name, value in environment.dirty.items():
            _set_dirty(dirty, name, value)
        limit = None if environment.memcg_mb is None else environment.memcg_mb << (20 - PAGE_SHIFT)
        memcg = self._memcg = MemCgroup(limit, other_pages=BASE_PAGES)
        for client, options in self._workload.mounts.items():
            wire = self._wires[client] = RecordingNetwork(self._venue.network(client), self._note_call)
            machine = self._machines[client] = Machine(
                client,
                network=wire,
                clock=self._venue.clock,
                memory_bytes=MEMORY_BYTES,
                memcg=memcg,
                dirty=dirty,
                seed=self._seed,
                strict=True,
            )
            mount = await machine.mount(self._venue.source, mount_point(client), options)
            if environment.read_ahead_kb is not None:
                mount.superblock.bdi.ra_pages = environment.read_ahead_kb << 10 >> PAGE_SHIFT
            await self._venue.sleep(SETTLE_S)
            self._tasks[client] = machine.task()
        root = await self._local.stat("/")
        self._names.set(root.st_ino, ".")
        self._directories.add(root.st_ino)
        await self._observe(MOUNT_LABEL)

    async def _unmount(self) -> None:
        for client, task in self._tasks.items():
            await task.exit()
            self._tasks[client] = task
        for client, machine in reversed(self._machines.items()):
            self.left_over += [f"{client}: {leak}" for leak in await machine.umount(mount_point(client))]
            await machine.close()
            rules = {rule: n for rule, n in machine.cache.violations.items() if n}
            self.left_over += [f"{client}: rule {rule} broken {n} times" for rule, n in rules.items()]

    def _note_result(self, step: Step, result: Result) -> None:
        self.results.append(result)
        if step.client == SERVER:
            self._exported.changed(self._venue.clock.now())

    def _note_call(self, procedure: Procedure, args: object) -> None:
        self._exported.called(procedure, args, self._venue.clock.now())
        if self._memcg.limit_pages is not None:
            self._charge_others()

    # --- what the executor asks of the machine ----------------------------------------------------------------------

    async def sleep(self, seconds: float) -> None:
        await self._venue.sleep(seconds)

    def buffers(self, size: int, count: int) -> None:
        if count:
            self._heap.hold(size, count)
        else:
            self._heap.release()
        memcg = self._memcg
        if memcg.limit_pages is not None:
            self._charge_others()
            memcg.resize(memcg.limit_pages)

    def _charge_others(self) -> None:
        mappings = (mapping for machine in self._machines.values() for mapping in machine.cache.mappings)
        self._memcg.other_pages = BASE_PAGES + self._heap.pages + self._nodes.pages(mappings)

    async def drop_caches(self, what: int) -> None:
        if what & 1:
            await self._venue.sleep(DROP_PAGES_S)
        for machine in self._machines.values():
            await machine.drop_caches(what)
        await self._venue.server.drop_caches()

    async def sync(self) -> None:
        """sync(2) on the recordings' machine: the exported file system was mounted first, so it is written first.

        With something to write there sync(2) waits, and the flushers it has woken run meanwhile. With nothing, the
        caller comes to the NFS mounts before they do.
        """
        exported_was_dirty = self._exported.visited_by_sync(self._venue.clock.now())
        for machine in self._machines.values():
            await machine.sync(flusher_first=exported_was_dirty)
        await self._venue.server.sync()
        self._exported.journal_committed(self._venue.clock.now())

    async def named(self, path: str) -> None:
        try:
            attributes = await self._local.lstat("/" + path)
        except OSError:
            return  # gone again, or never made: then it keeps the name it had
        self._note_name(attributes, path)

    async def checkpoint(self, label: str) -> None:
        await self._venue.sleep(SETTLE_S)
        await self._observe(label)

    async def _observe(self, label: str) -> None:
        self.observations.append(
            Observation(
                label,
                {client: await self._observe_client(client) for client in self._machines},
                steps_done=len(self.results) + 1,
            )
        )
        number = len(self.observations) - 1
        pause = self._pauses_s[number] if number < len(self._pauses_s) else DEFAULT_CHECKPOINT_MS / 1000
        for machine in self._machines.values():
            # Who reads /proc/kpageflags and writes the results fills the CPU's lru_add batch with pages of his own.
            lru_add_drain(machine.cache.memcg)
        await self._venue.sleep(pause)

    # --- taking notes -----------------------------------------------------------------------------------------------

    async def _observe_client(self, client: str) -> ClientObservation:
        wire = self._wires[client]
        record = wire.take()
        cached: dict[int, Any] = {}
        for mapping in self._machines[client].cache.mappings:
            if mapping.pages and not wire.is_overlaid(cast("NfsInode", mapping.host).fh):
                cached[mapping.host.i_ino] = [mapping.pages[index] for index in sorted(mapping.pages)]
        seen = {fileid for fileid in (wire.fileids.get(handle) for _, handle, *_ in record.io) if fileid is not None}
        if any(fileid not in self._names for fileid in (*cached, *seen)):
            await self._name_what_the_export_holds()
        pages = {self._names[fileid]: page_states(found) for fileid, found in sorted(cached.items())}
        return ClientObservation(
            ops=record.ops(),
            sequence=record.sequence(),
            io=named_io(record, wire.fileids, self._names),
            pages=pages,
            directories=frozenset(self._names[fileid] for fileid in self._directories),
            counters=self._counters_since(client),
        )

    def _counters_since(self, client: str) -> dict[str, int]:
        now = counters_of(self._machines[client].mounts[0].stats)
        before, self._counters[client] = self._counters.get(client, Counter()), now
        return {name: count - before[name] for name, count in now.items() if count != before[name]}

    async def _name_what_the_export_holds(self, directory: str = "") -> None:
        """Files that the script never named itself are called by the path under which the server has them now, the
        shallowest first, as os.walk comes to them."""
        below = []
        for name in await self._local.listdir(directory or "/"):
            path = f"{directory}/{os.fsdecode(name)}" if directory else os.fsdecode(name)
            attributes = await self._local.lstat("/" + path)
            if attributes.st_ino not in self._names:
                self._note_name(attributes, path)
            if stat.S_ISDIR(attributes.st_mode):
                below.append(path)
        for path in below:
            await self._name_what_the_export_holds(path)

    def _note_name(self, attributes: Any, path: str) -> None:
        self._names.set(attributes.st_ino, path)
        if stat.S_ISDIR(attributes.st_mode):
            self._directories.add(attributes.st_ino)
        else:
            self._directories.discard(attributes.st_ino)


class _SetUpMachine:
    """Who runs the set-up: nobody takes notes of it, so that a file is named only when the script names it."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    async def sleep(self, seconds: float) -> None:
        await self._venue.sleep(seconds)

    async def drop_caches(self, what: int) -> None:
        await self._venue.server.drop_caches(what)

    async def sync(self) -> None:
        await self._venue.server.sync()

    async def checkpoint(self, label: str) -> None:
        """There is nothing to look at yet."""

    def buffers(self, size: int, count: int) -> None:
        """Whose memory set-up needs does not matter."""

    async def named(self, path: str) -> None:
        """Set-up gives no names."""


def mount_point(client: str) -> str:
    return f"/mnt/{client}"


def checkpoint_pauses(truth: Mapping[str, Any]) -> list[float]:
    """Seconds that each recorded checkpoint took: the only part of the truth that a run may know beforehand."""
    pauses = []
    for checkpoint in truth.get("checkpoints", []):
        low, high = checkpoint.get("info", {}).get("checkpoint_ms", (DEFAULT_CHECKPOINT_MS,) * 2)
        pauses.append((low + high) / 2000)
    return pauses


def _set_dirty(dirty: DirtyDomain, name: str, value: int) -> None:
    """Apply one ``vm.dirty_*`` value; as in the kernel, setting bytes or a ratio puts the other one out of force."""
    match name:
        case "dirty_bytes":
            dirty.dirty_bytes, dirty.dirty_limit = value, None
        case "dirty_background_bytes":
            dirty.background_bytes = value
        case "dirty_ratio":
            dirty.dirty_ratio, dirty.dirty_bytes, dirty.dirty_limit = value, None, None
        case "dirty_background_ratio":
            dirty.background_ratio, dirty.background_bytes = value, None
        case _:
            setattr(dirty, name, value)
