"""Who calls: the credential of a process, as NFS sends it (AUTH_SYS: user, group, supplementary groups).

The request names user and group; the groups are asked of /proc/PID/status. A process may change them at any time, so
they are read anew for each request that depends on them, but for root, whom no group helps.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from freepage.slab import IN_USE
from freepage_proto.rpc import AUTH_SYS_MAX_GIDS, AuthSys

if TYPE_CHECKING:
    from freepage_client.machine import Machine
    from freepage_client.vfs.task import Task

MAX_TASKS = 64
MAX_STATUS_FILES = 64
ROOT_GROUPS_S = 1.0
"""How long root's groups are believed."""


class Callers:
    """A task of the machine for each credential that calls. It opens nothing: files belong to the mount."""

    def __init__(self, machine: Machine, is_idle: Callable[[], bool]) -> None:
        self._machine = machine
        self._is_idle = is_idle
        """No request is under way, so that no task is in use."""
        self._tasks: OrderedDict[tuple[int, int, tuple[int, ...]], Task] = OrderedDict()
        self._status: OrderedDict[int, int] = OrderedDict()
        """Descriptors of /proc/PID/status by pid. One whose process is gone says so, even if the number is reused."""
        self._root: dict[tuple[int, int], tuple[Task, float]] = {}

    def task(self, uid: int, gid: int, pid: int) -> Task:
        """The task that stands for a caller; ``pid`` is a thread's, 0 for none that we can see."""
        if uid == 0:
            entry = self._root.get((gid, pid))
            now = time.monotonic()
            if entry is not None and entry[1] > now:
                return entry[0]
            task = self._task(uid, gid, self._groups(pid))
            if len(self._root) >= MAX_TASKS:
                self._root.clear()
            self._root[gid, pid] = task, now + ROOT_GROUPS_S
            return task
        return self._task(uid, gid, self._groups(pid))

    def _task(self, uid: int, gid: int, groups: tuple[int, ...]) -> Task:
        key = uid, gid, groups
        task = self._tasks.get(key)
        if task is not None:
            self._tasks.move_to_end(key)
            return task
        if len(self._tasks) >= MAX_TASKS and self._is_idle():
            self._root.clear()
            _, oldest = self._tasks.popitem(last=False)
            self._forget(oldest)
        task = self._machine.task(AuthSys(uid, gid, groups, self._machine.hostname))
        task.umask = 0  # the kernel has applied the caller's
        self._tasks[key] = task
        return task

    def _forget(self, task: Task) -> None:
        self._machine.tasks.discard(task)
        task.cred.put(IN_USE)

    def _groups(self, pid: int) -> tuple[int, ...]:
        if not pid:
            return ()
        status = b""
        fd = self._status.get(pid)
        if fd is not None:
            try:
                status = os.pread(fd, 4096, 0)
            except OSError:
                os.close(self._status.pop(pid))
                fd = None
        if fd is None:
            try:
                fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
                status = os.pread(fd, 4096, 0)
            except OSError:
                if fd is not None:
                    os.close(fd)
                return ()
            self._status[pid] = fd
            if len(self._status) > MAX_STATUS_FILES:
                os.close(self._status.popitem(last=False)[1])
        begin = status.find(b"\nGroups:") + 8
        return tuple(map(int, status[begin : status.find(b"\n", begin)].split()))[:AUTH_SYS_MAX_GIDS]

    def close(self) -> None:
        """Give every credential back. No request may be under way."""
        self._root.clear()
        while self._tasks:
            self._forget(self._tasks.popitem()[1])
        while self._status:
            os.close(self._status.popitem()[1])
