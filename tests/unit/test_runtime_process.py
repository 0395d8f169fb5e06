from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys

import pytest

from freepage_runtime.clock import LoopClock
from freepage_runtime.process import (
    CannotListen,
    PortTaken,
    die_with_parent,
    explain_bind_error,
    listen,
    parent_gone,
    stop_on_signals,
)
from freepage_runtime.ready import ChildFailed, ReadyPipe, announce
from freepage_runtime.registry import Daemon

LINUX = sys.platform.startswith("linux")


def test_a_signal_asks_and_the_handler_goes_with_the_block() -> None:
    async def main() -> int | None:
        with stop_on_signals(signal.SIGUSR1) as stop:
            assert not stop.is_set()
            os.kill(os.getpid(), signal.SIGUSR1)
            await stop.wait()
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
        return stop.signum

    assert asyncio.run(main()) == signal.SIGUSR1


def test_a_second_signal_ends_the_process_at_once() -> None:
    code = """if True:
        import asyncio, os, signal
        from freepage_runtime.process import stop_on_signals
        async def main():
            with stop_on_signals() as stop:
                os.kill(os.getpid(), signal.SIGTERM)
                await stop.wait()
                print("asked", flush=True)
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
        asyncio.run(main())
    """
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert (child.stdout, child.returncode) == (b"asked\n", 128 + signal.SIGINT)


# A parent that starts a child with our stdout, waits for it to be ready, and is killed: the child must go too, which
# shows as the end of the pipe that both of them hold.
_PARENT = """if True:
    import os, subprocess, sys
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], stdout=subprocess.PIPE)
    child.stdout.readline()
    print(child.pid, flush=True)
    input()
"""
_DIES_WITH_PARENT = """if True:
    import signal, sys
    from freepage_runtime.process import die_with_parent
    assert die_with_parent(signal.SIGKILL, parent_pid=int(sys.argv[1]))
    print("ready", flush=True)
    signal.pause()
"""
_WATCHES_PARENT = """if True:
    import asyncio, sys
    from freepage_runtime.clock import LoopClock
    from freepage_runtime.process import parent_gone
    print("ready", flush=True)
    asyncio.run(parent_gone(int(sys.argv[1]), LoopClock(), every_s=0.01))
"""


@pytest.mark.parametrize(
    "child_code",
    [pytest.param(_DIES_WITH_PARENT, marks=pytest.mark.skipif(not LINUX, reason="Linux")), _WATCHES_PARENT],
)
def test_no_orphan_is_left_when_the_parent_is_killed(child_code: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, child_code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    with contextlib.suppress(ChildProcessError):  # init was quicker
        os.waitpid(child_pid, 0)  # we are its parent now: tests adopt orphans


@pytest.mark.skipif(not LINUX, reason="Linux")
def test_a_parent_that_is_gone_already_is_noticed() -> None:
    child = subprocess.run([sys.executable, "-c", _DIES_WITH_PARENT, "1"], capture_output=True, timeout=30, check=False)
    assert (child.returncode, child.stdout) == (-signal.SIGKILL, b"")


@pytest.mark.skipif(LINUX, reason="not on Linux")
def test_where_the_kernel_cannot_watch_it_says_so() -> None:
    assert die_with_parent() is False


def test_the_parent_that_lives_is_not_gone() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(parent_gone(os.getppid(), LoopClock(), every_s=0.001), 0.01)

    asyncio.run(main())


def test_listening_on_a_taken_port_is_explained() -> None:
    with listen("127.0.0.1", 0) as sock:
        assert not sock.getblocking()
        port = sock.getsockname()[1]
        with pytest.raises(PortTaken, match=f"cannot listen on 127.0.0.1:{port}: the port is taken"):
            listen("127.0.0.1", port)
        grpc_says = RuntimeError("Failed to bind to address")
        assert isinstance(explain_bind_error("127.0.0.1", port, grpc_says), PortTaken)


def test_listening_elsewhere_is_explained() -> None:
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1:0: not an address of this machine"):
        listen("192.0.2.1", 0)  # RFC 5737: nobody's
    denied = explain_bind_error("127.0.0.1", 80, OSError(errno.EACCES, "Permission denied"))
    assert "permission denied (ports below 1024 need a privilege)" in str(denied)
    lost = explain_bind_error("nowhere.invalid", 1, socket.gaierror(socket.EAI_NONAME, "not known"))
    assert str(lost) == "cannot listen on nowhere.invalid:1: no such host"
    assert "something odd" in str(explain_bind_error("127.0.0.1", 0, RuntimeError("something odd")))


def test_a_child_announces_itself_through_the_pipe() -> None:
    async def main() -> None:
        daemon = Daemon(role="server", name="s1", grpc="127.0.0.1:4")
        pipe = ReadyPipe()
        announce(os.dup(pipe.child_fd), daemon)
        assert await pipe.wait() == daemon
        pipe.close()

    asyncio.run(main())
    announce(None, Daemon(role="server", name="s1"))


def test_a_child_that_ends_or_stays_silent_has_failed() -> None:
    async def main() -> None:
        pipe = ReadyPipe()
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "", pass_fds=[pipe.child_fd])
        pipe.after_spawn()
        with pytest.raises(ChildFailed, match="ended before it was ready"):
            await pipe.wait()
        await child.wait()

        silent = ReadyPipe()
        held = os.dup(silent.child_fd)
        with pytest.raises(ChildFailed, match=r"did not become ready within 0\.01 s"):
            await silent.wait(timeout_s=0.01)
        os.close(held)

        never_used = ReadyPipe()
        never_used.close()
        never_used.close()

    asyncio.run(main())
