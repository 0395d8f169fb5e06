"""Talking to the kernel: requests read and answered by threads of ours (fs/fuse/dev.c is the other side).

Why the kernel's protocol and not libfuse: its high-level interface, which is all that mfusepy and its kin bind, names
files by path, so that fstat, fchmod and fchown of an open file whose name is gone fail; the libfuse of most systems
does not let shared memory be mapped with direct I/O; and ctypes costs each call more than the rest of it. The protocol
is a stable interface of the kernel, and what we need of it fits in abi.py.

One thread at a time reads, and lets the next one read only once it holds the client's lock. So requests begin in the
order in which the kernel sent them: the RELEASE that a close(2) leaves behind comes before the UNLINK that follows it.
As requests that wait go on in the loop, one thread is enough, and handing the turn on costs more than a second one
gains: a 128 KiB read took 222 us with three threads and 89 us with one.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from freepage_client.io.fuse import abi
from freepage_client.io.fuse.abi import Op
from freepage_client.io.fuse.loop import Finished, SharedLoop

log = logging.getLogger(__name__)

MAX_WRITE = 1 << 20
MAX_PAGES = 256
BUFFER_BYTES = MAX_WRITE + 4096
MAX_BACKGROUND = 1024
"""Requests that nobody waits for, RELEASE above all, are sent at once, in order; the kernel's default is 12."""

_IN_HEADER_SIZE = abi.IN_HEADER.size
_OUT_HEADER_SIZE = abi.OUT_HEADER.size
_pack_out = abi.OUT_HEADER.pack
_unpack_in = abi.IN_HEADER.unpack_from

Buffer = bytes | bytearray | memoryview
Answer = Buffer | list[Buffer] | None
"""What a request is answered with; None: the kernel wants no answer. Errors are raised as OSError."""


class Request(NamedTuple):
    """One request's header. ``pid`` is the calling thread's, 0 for one of another pid namespace, or of the kernel."""

    length: int
    opcode: int
    unique: int
    nodeid: int
    uid: int
    gid: int
    pid: int
    extensions: int
    padding: int


Handler = Callable[[Request, memoryview], "Answer | Coroutine[Any, Any, Answer]"]


class FileSystem(Protocol):
    """What a session serves. A handler answers, raises OSError, or returns a coroutine that does.

    Handlers run with the loop's lock held and must not block; coroutines begin in the calling thread and go on in the
    loop. A missing opcode is ENOSYS, which the kernel remembers for most operations.
    """

    @property
    def handlers(self) -> Mapping[int, Handler]: ...

    def ended(self) -> None:
        """The kernel will send nothing more. Called once, by any thread."""


class Session:
    """One mount's connection to the kernel. ``debug`` gets a line about each request."""

    def __init__(
        self,
        fd: int,
        file_system: FileSystem,
        loop: SharedLoop,
        *,
        threads: int = 1,
        debug: Callable[[str], None] | None = None,
    ) -> None:
        self._fd = fd
        self._loop = loop
        self._lock = loop.lock
        self._file_system = file_system
        self._handlers: dict[int, Handler] = dict(file_system.handlers)
        self._handlers[Op.INIT] = self._init
        self._handlers[Op.INTERRUPT] = self._interrupt
        self._handlers[Op.DESTROY] = _destroy
        self._turn = threading.Lock()
        self._ended = False
        self._stopped = False
        self._debug = debug
        self.minor = 0
        """The protocol's minor version, once the kernel has said INIT."""
        self.under_way: dict[int, tuple[asyncio.Task[Any], Request]] = {}
        """Requests that wait for something, by ``unique``."""
        self.requests = 0
        self._threads = [
            threading.Thread(target=self._serve, name=f"fuse-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Answer nothing more but ENOTCONN: somebody may use the mount although it is gone from the name space."""
        self._stopped = True

    async def join(self) -> None:
        """Wait for the threads, after the kernel has ended the session."""
        for thread in self._threads:
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
        tasks = [task for task, _ in self.under_way.values()]
        if tasks:
            await asyncio.wait(tasks)

    def close(self) -> None:
        """Give the descriptor back. The kernel aborts what it still waits for."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    # One thread.

    def _serve(self) -> None:
        loop, lock, turn, fd = self._loop, self._lock, self._turn, self._fd
        loop.adopt_thread()
        buffer = bytearray(BUFFER_BYTES)
        view = memoryview(buffer)
        while True:
            with turn:
                if self._ended:
                    return
                try:
                    length = os.readv(fd, [buffer])
                except InterruptedError:
                    continue
                except OSError as error:
                    if error.errno in (errno.ENOENT, errno.EAGAIN):
                        continue  # the request was interrupted before we saw it
                    if error.errno != errno.ENODEV:
                        log.error("reading from FUSE failed: %s", error)
                    self._end()
                    return
                lock.acquire()
            try:
                request = Request._make(_unpack_in(buffer))
                answer, number = self._begin(request, view[_IN_HEADER_SIZE:length])
            finally:
                lock.release()
            if number == _LATER:
                if request.opcode == Op.WRITE:  # its data are still in use
                    buffer = bytearray(BUFFER_BYTES)
                    view = memoryview(buffer)
            else:
                self.answer(request.unique, number, answer)

    def _begin(self, request: Request, body: memoryview) -> tuple[Answer, int]:
        """The answer and 0, or None and an errno, or ``_LATER``."""
        self.requests += 1
        handler = self._handlers.get(request.opcode)
        if self._stopped:
            return None, errno.ENOTCONN if request.opcode not in _UNANSWERED else _NO_ANSWER
        if handler is None:
            return None, errno.ENOSYS
        try:
            answer = handler(request, body)
            if isinstance(answer, Coroutine):
                begun = self._loop.begin(answer, lambda task: self._finished(request, task))
                if isinstance(begun, Finished):
                    answer = begun.value
                else:
                    self.under_way[request.unique] = begun, request
                    return None, _LATER
        except OSError as error:
            if self._debug is not None:
                self._debug(f"{_describe(request)}: {error.strerror}")
            return None, error.errno or errno.EIO
        except Exception:
            log.exception("%s failed", _describe(request))
            return None, errno.EIO
        if self._debug is not None:
            self._debug(_describe(request))
        if answer is None:
            return None, _NO_ANSWER
        return answer, 0

    def _finished(self, request: Request, task: asyncio.Task[Any]) -> None:
        """In the loop: a request that had to wait has ended."""
        self.under_way.pop(request.unique, None)
        answer: Answer = None
        error = 0
        if task.cancelled():
            error = errno.EINTR
        elif (failure := task.exception()) is not None:
            if isinstance(failure, OSError):
                error = failure.errno or errno.EIO
            else:
                log.error("%s failed", _describe(request), exc_info=failure)
                error = errno.EIO
        else:
            answer = task.result()
            if answer is None:
                error = _NO_ANSWER
        if self._debug is not None:
            self._debug(f"{_describe(request)}: later, {os.strerror(error) if error > 0 else 'ok'}")
        self.answer(request.unique, error, answer)

    def answer(self, unique: int, error: int, answer: Answer) -> None:
        """Send an answer; ``error`` is an errno or 0. An answer that nobody wants any more is no error."""
        if error == _NO_ANSWER:
            return
        try:
            if error:
                os.write(self._fd, _pack_out(_OUT_HEADER_SIZE, -error, unique))
            elif type(answer) is list:
                length = _OUT_HEADER_SIZE + sum(map(len, answer))
                os.writev(self._fd, [_pack_out(length, 0, unique), *answer])
            else:
                assert answer is not None and not isinstance(answer, list)
                os.writev(self._fd, [_pack_out(_OUT_HEADER_SIZE + len(answer), 0, unique), answer])
        except OSError as failure:
            if failure.errno not in (errno.ENOENT, errno.ENODEV, errno.EBADF):
                log.error("answering FUSE failed: %s", failure)

    def _end(self) -> None:
        self._ended = True
        with self._lock:
            for task, _ in self.under_way.values():
                task.cancel()
            self._loop.wake()
        self._file_system.ended()

    # Requests about the session.

    def _init(self, request: Request, body: memoryview) -> Answer:
        major, minor, max_readahead, flags = abi.INIT_IN.unpack_from(body)
        if major != abi.MAJOR or minor < abi.MINOR_OLDEST:
            log.error("the kernel speaks FUSE %d.%d, and 7.%d is needed", major, minor, abi.MINOR_OLDEST)
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        self.minor = minor
        flags2 = int.from_bytes(body[16:20], sys.byteorder) if flags & abi.INIT_EXT else 0
        wanted = (
            abi.INIT_ASYNC_READ
            | abi.INIT_POSIX_LOCKS
            | abi.INIT_ATOMIC_O_TRUNC
            | abi.INIT_BIG_WRITES
            | abi.INIT_FLOCK_LOCKS
            | abi.INIT_AUTO_INVAL_DATA
            | abi.INIT_PARALLEL_DIROPS
            | abi.INIT_HANDLE_KILLPRIV
            | abi.INIT_MAX_PAGES
            | abi.INIT_EXT
        )
        if Op.SETLK not in self._handlers:  # then the kernel keeps locks by itself
            wanted &= ~(abi.INIT_POSIX_LOCKS | abi.INIT_FLOCK_LOCKS)
        return abi.INIT_OUT.pack(
            abi.MAJOR,
            abi.MINOR,
            max_readahead,
            flags & wanted,
            MAX_BACKGROUND,
            MAX_BACKGROUND,
            MAX_WRITE,
            1,
            MAX_PAGES,
            0,
            flags2 & abi.INIT2_DIRECT_IO_ALLOW_MMAP,
        )

    def _interrupt(self, request: Request, body: memoryview) -> Answer:
        """A signal for who waits for a request: a wait for a lock ends with EINTR, anything else if the signal kills.

        The kernel tells us of the first signal alone, so a caller that was not killed yet is looked at again.
        """
        (unique,) = abi.INTERRUPT_IN.unpack_from(body)
        self._consider_interrupt(unique)
        self._loop.wake()
        return None

    def _consider_interrupt(self, unique: int) -> None:
        entry = self.under_way.get(unique)
        if entry is None:
            return
        task, request = entry
        if request.opcode in _INTERRUPTIBLE or _is_being_killed(request.pid):
            task.cancel()
        else:
            self._loop.call_later(LOOK_AGAIN_S, self._consider_interrupt, unique)


LOOK_AGAIN_S = 0.5
"""How often a caller that was interrupted is looked at, whether it is being killed meanwhile."""

_INTERRUPTIBLE = frozenset((Op.SETLKW, Op.READ))
"""READ: of the access log. Files' reads are not interrupted by signals, but the page cache answers them soon."""

_UNANSWERED = frozenset((Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT))

_LATER = -1
_NO_ANSWER = -2


def _destroy(request: Request, body: memoryview) -> Answer:
    return b""


def _describe(request: Request) -> str:
    try:
        name = Op(request.opcode).name
    except ValueError:
        name = f"operation {request.opcode}"
    return f"{name} node {request.nodeid} uid {request.uid} pid {request.pid}"


def _is_being_killed(pid: int) -> bool:
    """Whether SIGKILL is pending for a thread; any signal that ends a process becomes one (complete_signal)."""
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return True  # it is gone
    for line in status.splitlines():
        if line.startswith((b"SigPnd:", b"ShdPnd:")) and int(line.split()[1], 16) & 1 << (signal.SIGKILL - 1):
            return True
    return False
