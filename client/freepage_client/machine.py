"""One client machine: its page cache, its mounts, its flusher, its processes."""

from __future__ import annotations

import asyncio
import errno
import itertools
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator
from math import isqrt
from typing import Any

from freepage import (
    AuditReport,
    DirtyDomain,
    MemCgroup,
    ObjectState,
    PageCache,
    SlabObject,
    SlabRun,
    lru_add_drain,
    wait_on_page_writeback_range,
)
from freepage.slab import IN_USE
from freepage_client.nfs import check
from freepage_client.nfs.client import NfsClient
from freepage_client.nfs.cred import Credential, CredentialCache
from freepage_client.nfs.dcache import Dentry, dput
from freepage_client.nfs.errors import os_error
from freepage_client.nfs.faults import NFS_GALLERY
from freepage_client.nfs.grants import GrantListener
from freepage_client.nfs.mount import Mount
from freepage_client.nfs.options import parse_mount_options
from freepage_client.nfs.super import NfsServer
from freepage_client.nfs.transport import Clock, Network
from freepage_client.timer import timer_delay_s
from freepage_client.vfs.task import Task
from freepage_proto.eager import Begun, begin
from freepage_proto.rpc import AuthSys

PAGE_SIZE = 4096
CONGESTION_MAX_PAGES = (256 << 20) // PAGE_SIZE

SLAB_CACHES = (
    ("nfs_page", 128, ("fill", "write")),
    ("rpc_cred", 192, ("",)),
    ("nfs_open_context", 192, ("",)),
    ("nfs_lock_context", 64, ("",)),
    ("nfs_dir_array", 4096, ("",)),
    ("nfs_dir_name", 32, ("",)),
)


class Machine:
    """A host that mounts NFS file systems.

    ``memory_bytes`` bounds its page cache as memory.max would (None: no bound). ``memcg`` and ``dirty`` may be shared
    with other machines. ``boot_instance`` tells this life of the host from every other one (None: it comes from the
    seed, where no host returns under its name). ``strict`` makes every broken rule of the hook an exception. Messages
    that Linux would print go to ``on_message``.
    """

    def __init__(
        self,
        hostname: str,
        *,
        network: Network,
        clock: Clock,
        memory_bytes: int | None,
        memcg: MemCgroup | None = None,
        dirty: DirtyDomain | None = None,
        seed: int = 0,
        boot_instance: int | None = None,
        strict: bool = False,
        on_message: Callable[[str], None] | None = None,
    ) -> None:
        self.hostname = hostname
        self.network = network
        self.clock = clock
        self.random = random.Random(f"{seed}/{hostname}")
        seeded = self.random.getrandbits(63)
        self.boot_instance = seeded if boot_instance is None else boot_instance
        self.xids = itertools.count(self.random.getrandbits(32))
        self.messages: list[str] = []
        self._on_message = on_message
        if memcg is None:
            memcg = MemCgroup(None if memory_bytes is None else max(memory_bytes // PAGE_SIZE, 1))
        self.cache = PageCache(
            now=clock.now,
            create_future=lambda: asyncio.get_running_loop().create_future(),
            memcg=memcg,
            dirty=dirty,
            random=self.random.random,
            strict=strict,
        )
        self.cache.faults.extend(NFS_GALLERY)
        for name, objsize, uses in SLAB_CACHES:
            self.cache.ledger.register(name, objsize, uses)
        self.credentials = CredentialCache(self.cache.ledger)
        self.cred = self.credentials.lookup(AuthSys(0, 0, (), hostname), "boot")
        pages = 1 << 20 if memory_bytes is None else memory_bytes // PAGE_SIZE
        self.congestion_pages = min(max(16 * isqrt(pages) * 4 * 1024 // PAGE_SIZE, 256), CONGESTION_MAX_PAGES)
        self.mounts: list[Mount] = []
        self._clients: dict[str, NfsClient] = {}
        """By server: of those that something is mounted from, or about to be."""
        self._superblocks: list[NfsServer] = []
        """That a new mount may find: from probing the server to the beginning of the last unmounting."""
        self.past_retransmissions = 0
        """Of transports that are no more: what this machine counted never goes down."""
        self.resent_pages = 0
        """Pages whose COMMIT came back with another write verifier: they were dirty again."""
        self.tasks: set[Task] = set()
        self._io: dict[Iterable[SlabObject | SlabRun], None] = {}
        """what is under way to servers and holds objects"""
        self._io_ended: asyncio.Future[None] | None = None
        """of whoever waits until there are none"""
        self._gencount = 0
        self._sillycounter = 0
        self._lock_owners: dict[object, int] = {}
        self._grants: dict[str, GrantListener] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._flushers: dict[NfsServer, asyncio.Task[None]] = {}

    # What the NFS client asks of its machine.

    def next_gencount(self) -> int:
        """nfs_attr_generation_counter: orders requests and what replies may overwrite."""
        self._gencount += 1
        return self._gencount

    def next_sillycounter(self) -> int:
        self._sillycounter += 1
        return self._sillycounter

    def lock_owner_id(self, owner: object) -> int:
        """A number that stands for a lock's owner on the wire."""
        return self._lock_owners.setdefault(owner, len(self._lock_owners) + 1)

    def grants(self, server: str) -> GrantListener:
        """Who waits for locks of ``server`` on this machine, whichever mount it was."""
        return self._grants.setdefault(server, GrantListener())

    def message(self, text: str) -> None:
        """What the kernel would print. The last hundred are kept."""
        self.messages.append(text)
        del self.messages[:-100]
        if self._on_message is not None:
            self._on_message(text)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that nobody waits for. What it raises is a bug and goes to the loop's exception handler."""
        begun = begin(work)
        if isinstance(begun, Begun):
            task = asyncio.get_running_loop().create_task(begun)
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            task.get_loop().call_exception_handler(
                {"message": f"{self.hostname}: {task.exception()!r}", "exception": task.exception(), "task": task}
            )

    def begin_io(self, call: Iterable[SlabObject | SlabRun]) -> None:
        """Something goes out that the end of a system call does not end; what it yields is in use until ``end_io``."""
        self._io[call] = None

    def end_io(self, call: Iterable[SlabObject | SlabRun]) -> None:
        del self._io[call]
        if not self._io and self._io_ended is not None:
            self._io_ended.set_result(None)
            self._io_ended = None

    async def drain_tasks(self) -> None:
        """Wait until everything spawned or sent so far, and by it, has ended."""
        while self._running or self._io:
            pending: set[asyncio.Future[None]] = set(self._running)
            if self._io:
                self._io_ended = self._io_ended or asyncio.get_running_loop().create_future()
                pending.add(self._io_ended)
            await asyncio.wait(pending)

    # Mounting.

    async def mount(self, source: str, mountpoint: str, options: str = "") -> Mount:
        """``mount -t nfs -o OPTIONS SERVER:/EXPORT MOUNTPOINT``. Raises BadMountOption, OSError.

        Like the kernel (nfs_get_tree_common) it asks the server first, and then sees whether a superblock is there.
        """
        # The host may have a port, and an IPv6 address in brackets: the export begins at the first ":/".
        hostname, colon, path = source.partition(":/")
        export = f"/{path}"
        if not colon or not hostname:
            raise os_error(errno.EINVAL, f"{source}: SERVER:/EXPORT is needed")
        if not mountpoint.startswith("/") or mountpoint != "/" + "/".join(_parts(mountpoint)):
            raise os_error(errno.EINVAL, f"{mountpoint}: a plain absolute path is needed")
        if any(mount.mountpoint == mountpoint for mount in self.mounts):
            raise os_error(errno.EBUSY, mountpoint)
        parsed = parse_mount_options(options)
        nfs_client = self._clients.setdefault(hostname, NfsClient(hostname))
        new = NfsServer(self, nfs_client, export, mountpoint, parsed)
        try:
            root_fh = await new.probe(export, self.cred)
        except BaseException:
            await self._discard(new)
            raise
        superblock = next((each for each in self._superblocks if each.is_shared_with(new)), new)
        superblock.users += 1
        if superblock is new:
            self._superblocks.append(new)
        try:
            if superblock is not new:
                await self._discard(new)
            root = await superblock.get_root(root_fh, self.cred)
        except BaseException:
            superblock.users -= 1
            if not superblock.users:  # it is new, or the mounts that it had went in the meantime
                self._superblocks.remove(superblock)
                await self._quiesce(superblock)
                await superblock.kill()
                await self._discard(superblock)
            raise
        mount = Mount(superblock, root, mountpoint, source, export, parsed)
        self.mounts.append(mount)
        superblock.mounts.append(mount)
        wb = superblock.bdi.wb
        wb.on_dirty = lambda: self._arm_flusher(superblock)
        wb.on_wakeup = lambda: self.spawn(wb.do_background())
        wb.sleep = self.clock.sleep
        return mount

    def retransmissions(self) -> int:
        """Calls that this machine has sent again."""
        return self.past_retransmissions + sum(each.xprt.retransmissions for each in self._clients.values())

    def superblocks(self) -> list[NfsServer]:
        """What is mounted, each once, in the order of their first mounts."""
        return list(dict.fromkeys(mount.superblock for mount in self.mounts))

    def mount_of(self, dentry: Dentry) -> Mount:
        """The mount through which a dentry is seen if nobody says: its first. Raises OSError(ENOENT)."""
        for mount in self.mounts:
            if mount.superblock is dentry.sb:
                return mount
        raise os_error(errno.ENOENT)

    def mount_at(self, path: str) -> Mount | None:
        """The mount whose mountpoint is exactly ``path``."""
        return next((mount for mount in self.mounts if mount.mountpoint == path), None)

    async def umount(self, mountpoint: str) -> list[str]:
        """Unmount; return what is left behind, a line each, empty when nothing leaked.

        With the last mount of a superblock everything is written back first; before that nothing is, as in Linux, and
        what leaked is told later. Raises OSError: EINVAL if nothing is mounted there, EBUSY while files are open.
        """
        mount = self.mount_at(mountpoint)
        if mount is None:
            raise os_error(errno.EINVAL, mountpoint)
        if mount.opens or mount.walks or any(task.cwd_mount is mount for task in self.tasks):
            raise os_error(errno.EBUSY, mountpoint)
        superblock = mount.superblock
        if mount.active:  # else somebody gave up waiting for an unmounting of it, and here is the next
            mount.active = False
            superblock.users -= 1
            dput(mount.root)
        if superblock.users:
            self.mounts.remove(mount)
            superblock.mounts.remove(mount)
            await superblock.tell_mountd(mount.export, self.cred)
            return []
        if superblock in self._superblocks:
            self._superblocks.remove(superblock)
        pinned = await self._quiesce(superblock)
        self.mounts.remove(mount)
        await superblock.kill()
        await superblock.tell_mountd(mount.export, self.cred)
        await self._discard(superblock)
        return [f"busy: {path}" for path in pinned] + self._left_behind()

    async def _quiesce(self, superblock: NfsServer) -> list[str]:
        """Nobody can reach it any more: write everything back, stop the flusher. Returns the paths still in use."""
        await superblock.bdi.wb.writeback_all(sync=True)
        await self.drain_tasks()
        pinned = superblock.busy_dentries()
        flusher = self._flushers.pop(superblock, None)
        if flusher is not None:
            flusher.cancel()
            await asyncio.gather(flusher, return_exceptions=True)
        return pinned

    async def _discard(self, superblock: NfsServer) -> None:
        """It is not wanted, or not any more, and so perhaps its server (nfs_free_server)."""
        superblock.bdi.unregister()
        nfs_client = superblock.nfs_client
        nfs_client.users -= 1
        if not nfs_client.users:
            self.past_retransmissions += nfs_client.xprt.retransmissions
            del self._clients[nfs_client.hostname]
        await superblock.rpc.close()

    def _left_behind(self) -> list[str]:
        """Live objects that nothing explains, by slab cache. With other mounts left, only what is orphaned counts."""
        lines = []
        explained = {self.cred, *(task.cred for task in self.tasks)}
        for name, cache in self.cache.ledger.caches.items():
            if self.mounts:
                left = cache.live(ObjectState.ORPHANED)
            else:
                left = sum(1 for obj in cache.objects if obj not in explained) + sum(run.live for run in cache.runs)
            if left:
                lines.append(f"{name}: {left} objects remain")
        return lines

    # Processes.

    def task(self, cred: AuthSys | None = None) -> Task:
        """A process of this machine, root's unless told otherwise."""
        auth = cred if cred is not None else AuthSys(0, 0, (), self.hostname)
        task = Task(self, self.credentials.lookup(auth, "fork"))
        self.tasks.add(task)
        return task

    # Memory and writeback.

    def _arm_flusher(self, superblock: NfsServer) -> None:
        if superblock not in self._flushers and any(mount.superblock is superblock for mount in self.mounts):
            self._flushers[superblock] = asyncio.get_running_loop().create_task(self._flush_periodically(superblock))

    async def _flush_periodically(self, superblock: NfsServer) -> None:
        """Its flusher thread: it wakes about every five seconds while anything is dirty (wb_wakeup_delayed)."""
        wb = superblock.bdi.wb
        try:
            while wb.needs_timer():
                interval_s = self.cache.dirty.dirty_writeback_centisecs / 100
                if not interval_s:
                    return
                await self.clock.sleep(timer_delay_s(self.clock.now(), interval_s))
                try:
                    await wb.do_periodic(self.clock.now())
                except OSError as error:
                    self.message(f"nfs: writeback to {superblock.source} failed: {error}")
        finally:
            self._flushers.pop(superblock, None)

    async def sync(self, *, flusher_first: bool = True) -> None:
        """sync(2): wake every flusher, then write and wait everywhere.

        A woken flusher writes UNSTABLE and commits; who waits asks FILE_SYNC. ``flusher_first`` False: the flushers
        did not get to run before the caller's own pass, since nothing else on the machine made sync(2) wait earlier.
        """
        if flusher_first:
            for superblock in self.superblocks():
                await superblock.bdi.wb.writeback_all(sync=False)
        for superblock in self.superblocks():
            await superblock.bdi.wb.writeback_all(sync=True)
        for superblock in self.superblocks():
            for inode in list(
                superblock.inodes.values()
            ):  # wait_sb_inodes; a COMMIT that follows by itself is not waited for
                if inode.mapping.nrpages:
                    await wait_on_page_writeback_range(inode.mapping, 0, None)

    async def drop_caches(self, what: int) -> None:
        """echo WHAT > /proc/sys/vm/drop_caches: 1 pages, 2 names and inodes, 3 both. Raises OSError(EINVAL)."""
        if what not in (1, 2, 3):
            raise os_error(errno.EINVAL)
        if what & 1:
            # Superblocks are walked in the order they were mounted: the root file system's pages come first, and with
            # the first of them pagevec_release empties the CPU's batch, which would have kept pages of ours.
            lru_add_drain(self.cache.memcg)
            self.cache.drop_pagecache()
        if what & 2:
            for superblock in self.superblocks():
                superblock.prune()

    def resize_memory(self, memory_bytes: int | None) -> None:
        """Set memory.max; a smaller limit reclaims at once."""
        self.cache.memcg.resize(None if memory_bytes is None else max(memory_bytes // PAGE_SIZE, 1))

    # The audit.

    def roots_in_use(self) -> Iterator[SlabObject | SlabRun]:
        """Everything that is rightly held: by processes, open files, calls under way, unwritten data."""
        yield self.cred
        for task in self.tasks:
            yield task.cred
        for objects in self._io:
            yield from objects
        for superblock in self.superblocks():
            for inode in superblock.inodes.values():
                yield from inode.open_files
                yield from inode.write_requests.values()
            for dentry in superblock.dentries():
                if dentry.sillyrename_cred is not None:
                    yield dentry.sillyrename_cred

    def audit(self) -> AuditReport:
        """Mark and sweep, and whether the NFS client's own counters and flags agree with its requests."""
        report = self.cache.ledger.audit(self.roots_in_use(), self.cache.mappings)
        report.differences.extend(check.differences(self.superblocks()))
        return report

    async def close(self) -> None:
        """Shut down: close every file, unmount everything that can be, stop the flushers."""
        for task in list(self.tasks):
            await task.exit()
        for mount in list(self.mounts):
            await self.umount(mount.mountpoint)
        for flusher in self._flushers.values():
            flusher.cancel()
        await asyncio.gather(*self._flushers.values(), return_exceptions=True)
        await self.drain_tasks()
        cred: Credential | None = self.cred
        if cred is not None and cred.alive:
            cred.put(IN_USE)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
