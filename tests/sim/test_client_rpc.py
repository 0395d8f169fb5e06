"""Calls that get lost, servers that go away and come back, verifiers that change."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Coroutine
from typing import Any

import pytest

from freepage_client.machine import Machine
from freepage_lab.sim.network import Fault
from freepage_lab.sim.world import SERVER, World, run_world
from freepage_proto.nfs3 import FsstatRes, NfsStat3
from freepage_proto.rpc import CallHeader, Procedure
from server_rig import ask_first


def _only(procedure: Procedure, **what: object) -> Fault:
    return Fault(frozenset({procedure}), **what)  # type: ignore[arg-type]


def test_a_lost_request_is_sent_again_after_timeo_with_the_same_xid() -> None:
    async def story(world: World) -> None:
        machine = await world.client("A", "timeo=100,retrans=3")
        task = machine.task()
        seen: list[tuple[Procedure, int]] = []
        server = world.servers[SERVER]

        async def answer(procedure: Procedure, header: CallHeader, args: Any) -> object:
            seen.append((procedure, header.xid))
            return None

        ask_first(server, answer)
        world.network.faults.append(_only(Procedure.MKDIR, lose_reply=True, times=1))
        start = world.clock.now()
        await task.mkdir("/mnt/d")
        assert world.clock.now() - start == pytest.approx(10, abs=0.1)
        xids = [xid for procedure, xid in seen if procedure is Procedure.MKDIR]
        assert len(xids) == 2 and len(set(xids)) == 1
        stats = machine.mounts[0].stats
        assert stats.ops[Procedure.MKDIR].transmissions == 2 and stats.ops[Procedure.MKDIR].ops == 1
        await task.exit()

    # The second MKDIR says EEXIST unless the server knows the xid again; what the client did is what is asked here.
    try:
        run_world(story)
    except FileExistsError:
        pytest.fail("a retransmitted MKDIR must be recognised by its xid")


def test_a_hard_mount_waits_through_a_major_timeout_and_says_so_once() -> None:
    async def story(world: World) -> None:
        machine = await world.client("A", "timeo=10,retrans=2")
        task = machine.task()
        world.network.faults.append(_only(Procedure.GETATTR, lose_request=True, times=7))
        await world.clock.sleep(40)
        await task.stat("/mnt")
        op = machine.mounts[0].stats.ops[Procedure.GETATTR]
        assert op.timeouts == 3 and op.transmissions == 2 + 8  # two of the mount
        assert world.clock.now() == pytest.approx(40 + 1 + 2 + 1 + 2 + 1 + 2 + 1, abs=0.1)
        complaints = [line for line in machine.messages if "not responding" in line]
        assert complaints == ["nfs: server server not responding, still trying"]
        assert machine.messages[-1] == "nfs: server server OK"
        await task.exit()

    run_world(story)


@pytest.mark.parametrize(("option", "error"), [("soft", errno.EIO), ("softerr", errno.ETIMEDOUT)])
def test_a_soft_mount_gives_up(option: str, error: int) -> None:
    async def story(world: World) -> None:
        machine = await world.client("A", f"{option},timeo=10,retrans=2,nosoftreval")
        task = machine.task()
        fault = _only(Procedure.GETATTR, lose_request=True)
        world.network.faults.append(fault)
        await world.clock.sleep(40)
        start = world.clock.now()
        with pytest.raises(OSError) as caught:
            await task.stat("/mnt")
        assert caught.value.errno == error
        assert world.clock.now() - start == pytest.approx(1 + 2, abs=0.1)  # initval + increment x retrans
        world.network.faults.remove(fault)
        await task.exit()

    run_world(story)


def test_a_reply_that_comes_after_the_mount_has_given_up_is_counted_and_dropped() -> None:
    async def story(world: World) -> None:
        machine = await world.client("A", "soft,timeo=10,retrans=0")
        task = machine.task()
        world.network.faults.append(_only(Procedure.GETATTR, delay_s=5.0, times=1))
        await world.clock.sleep(40)
        stats = machine.mounts[0].stats
        receives = stats.xprt.receives
        with pytest.raises(OSError):
            await task.stat("/mnt")
        assert machine.mounts[0].rpc.in_flight == 0
        assert (stats.xprt.receives - receives, stats.xprt.bad_xids) == (0, 0)
        await world.clock.sleep(10)
        assert (stats.xprt.receives - receives, stats.xprt.bad_xids) == (1, 1)
        await task.exit()

    run_world(story)


def test_who_stops_waiting_ends_the_retransmissions() -> None:
    async def story(world: World) -> None:
        machine = await world.client("A", "timeo=10,retrans=2")
        task = machine.task()
        world.network.faults.append(_only(Procedure.MKDIR, lose_request=True))
        making = _spawn(task.mkdir("/mnt/d"))
        await world.clock.sleep(1.5)
        op = machine.mounts[0].stats.ops[Procedure.MKDIR]
        assert (op.transmissions, op.ops) == (2, 0)
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        await world.clock.sleep(100)
        assert (op.transmissions, op.ops, machine.mounts[0].rpc.in_flight) == (2, 1, 0)
        await task.exit()

    run_world(story)


def test_a_server_that_is_busy_is_asked_again_with_another_xid() -> None:
    """NFS3ERR_JUKEBOX; a second reply to the first xid, which was sent twice, does not answer the second."""

    async def story(world: World) -> None:
        machine = await world.client("A", "timeo=10,retrans=5")
        task = machine.task()
        server = world.servers[SERVER]
        xids: list[int] = []

        async def answer(procedure: Procedure, header: CallHeader, args: Any) -> object:
            if procedure is not Procedure.FSSTAT:
                return None
            xids.append(header.xid)
            if header.xid == xids[0]:
                await world.clock.sleep(1.5)
                return FsstatRes(NfsStat3.JUKEBOX)
            return FsstatRes(NfsStat3.OK, tbytes=77 << 20)

        ask_first(server, answer)
        start = world.clock.now()
        await task.statfs("/mnt")
        assert world.clock.now() - start == pytest.approx(1.5 + 5, abs=0.1)
        assert len(xids) == 3 and len(set(xids)) == 2
        stats = machine.mounts[0].stats
        op = stats.ops[Procedure.FSSTAT]
        assert (op.ops, op.transmissions, op.errors, stats.events["delay"]) == (2, 3, 1, 1)
        assert stats.xprt.bad_xids == 1
        await task.exit()

    run_world(story)


def test_a_broken_connection_is_made_again_and_the_call_repeated() -> None:
    async def story(world: World) -> None:
        machine = await world.client()
        task = machine.task()
        fd = await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)
        await task.write(fd, b"x" * 100_000)
        world.network.cut(SERVER)
        closing = _spawn(task.close(fd))
        await world.clock.sleep(5)
        world.network.heal(SERVER)
        cut_at = world.clock.now()
        await closing
        assert world.clock.now() - cut_at < 3.1
        assert (await task.stat("/mnt/f")).st_size == 100_000
        assert machine.mounts[0].stats.xprt.retransmissions >= 1
        await task.exit()

    run_world(story)


def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work)


def test_a_changed_verifier_makes_the_data_be_sent_again() -> None:
    async def story(world: World) -> None:
        server = await world.server()
        machine = await world.client("A", "wsize=65536")
        task = machine.task()
        data = os.urandom(4 * 65536)
        fd = await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)
        await task.write(fd, data)
        calls: list[Procedure] = []
        machine.mounts[0].rpc.trace = lambda procedure, args: calls.append(procedure)
        world.network.faults.append(_only(Procedure.COMMIT, delay_s=1.0, times=1))
        syncing = _spawn(task.fsync(fd))
        await world.clock.sleep(0.5)  # the WRITEs are answered, the COMMIT is on its way
        await server.crash(boot_ns=2)
        await syncing
        writes, commits = calls.count(Procedure.WRITE), calls.count(Procedure.COMMIT)
        assert (writes, commits) == (8, 2), calls
        await task.close(fd)
        await task.exit()
        local = await world.local_task()
        fd = await local.open("/f", os.O_RDONLY)
        assert await local.pread(fd, len(data), 0) == data
        await local.close(fd)

    run_world(story, seed=4)


@pytest.mark.parametrize("away_s", [0.5, 30, 300, 3600])
def test_a_server_may_be_away_for_as_long_as_it_likes(away_s: float) -> None:
    """Work of all kinds is under way when it goes; it goes on within three seconds of its return, each call once."""

    async def story(world: World) -> None:
        server = await world.server()
        machine = await world.client("A", "wsize=32768")
        task = machine.task()
        data = os.urandom(300_000)
        fd = await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)
        await task.mkdir("/mnt/d")
        await task.write(fd, data)
        await world.clock.sleep(40)
        await task.write(fd, data)
        world.network.cut(SERVER)
        works = [
            _spawn(task.fsync(fd)),
            _spawn(task.rename("/mnt/d", "/mnt/e")),
            _spawn(task.mkdir("/mnt/g")),
            _spawn(task.symlink("x", "/mnt/l")),
        ]
        await world.clock.sleep(away_s)
        assert not any(work.done() for work in works)
        await server.crash(boot_ns=2)
        world.network.heal(SERVER)
        back = world.clock.now()
        await asyncio.gather(*works)
        assert world.clock.now() - back < 3.2
        stats = machine.mounts[0].stats.xprt
        assert stats.connects <= away_s / 3 + 2, "one attempt to connect serves every call"
        await task.close(fd)
        assert sorted(await task.listdir("/mnt")) == [b"e", b"f", b"g", b"l"]
        await task.exit()
        local = await world.local_task()
        fd = await local.open("/f", os.O_RDONLY)
        assert await local.pread(fd, 2 * len(data), 0) == data * 2
        await local.close(fd)

    run_world(story, seed=5)


def test_an_unreachable_server_fails_a_soft_mount_in_one_line() -> None:
    async def story(world: World) -> None:
        machine: Machine = world.machine("A")
        with pytest.raises(OSError) as caught:
            await machine.mount("nowhere:/export", "/mnt", "soft,retrans=0")
        assert caught.value.errno == errno.EIO
        assert machine.mounts == []

    run_world(story)


@pytest.mark.parametrize(
    ("source", "mountpoint", "error"),
    [
        ("server", "/mnt", errno.EINVAL),
        ("server:relative", "/mnt", errno.EINVAL),
        ("server:/export", "mnt", errno.EINVAL),
        ("server:/export", "/mnt/", errno.EINVAL),
        ("server:/other", "/mnt", errno.EACCES),
    ],
)
def test_what_cannot_be_mounted_says_why(source: str, mountpoint: str, error: int) -> None:
    async def story(world: World) -> None:
        await world.server()
        machine = world.machine("A")
        with pytest.raises(OSError) as caught:
            await machine.mount(source, mountpoint)
        assert caught.value.errno == error

    run_world(story)


def test_a_mount_is_busy_while_a_path_below_it_is_walked() -> None:
    async def story(world: World) -> None:
        machine = await world.client()
        task = machine.task()
        opening = asyncio.get_running_loop().create_task(task.open("/mnt/f", os.O_RDWR | os.O_CREAT))
        await world.clock.sleep(0.000_3)
        with pytest.raises(OSError) as caught:
            await machine.umount("/mnt")
        assert caught.value.errno == errno.EBUSY
        await task.close(await opening)
        assert await machine.umount("/mnt") == []
        with pytest.raises(FileNotFoundError):
            await task.stat("/mnt/f")

    run_world(story)


def test_two_hosts_that_create_the_same_name_in_the_same_tick_have_two_verifiers() -> None:
    """Hosts that begin alike and count alike: one wins, also when the calls are the first of both."""

    async def story(world: World) -> None:
        machines = [await world.client(name) for name in "ABCD"]
        verifiers = {machine.mounts[0].superblock.exclusive_verifier() for machine in machines}
        assert len(verifiers) == 4
        tasks = [machine.task() for machine in machines]
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        opened = await asyncio.gather(*(task.open("/mnt/f", flags) for task in tasks), return_exceptions=True)
        assert sum(isinstance(result, int) for result in opened) == 1, opened
        for task in tasks:
            await task.exit()

    run_world(story)


@pytest.mark.parametrize("crash", [False, True], ids=["replay cache", "crash"])
def test_an_exclusive_create_whose_reply_is_lost_is_still_ours(crash: bool) -> None:
    """RFC 1813, 3.3.8: by the verifier in the new file the server knows its client again, even after a crash.

    What the SETATTR that follows sets is seen, and the name stays taken for everybody else.
    """

    async def story(world: World) -> None:
        machine = await world.client("A", "timeo=10,retrans=5")
        task = machine.task()
        calls: list[Procedure] = []
        machine.mounts[0].rpc.trace = lambda procedure, args: calls.append(procedure)
        world.network.faults.append(_only(Procedure.CREATE, lose_reply=True, times=1))
        opening = asyncio.get_running_loop().create_task(
            task.open("/mnt/f", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        )
        await world.clock.sleep(0.5)
        if crash:
            await world.servers[SERVER].crash(boot_ns=2)
        fd = await opening
        assert calls[-2:] == [Procedure.CREATE, Procedure.SETATTR]
        assert machine.mounts[0].stats.ops[Procedure.CREATE].transmissions == 2
        status = await task.fstat(fd)
        assert status.st_mode & 0o777 == 0o640 and abs(status.st_mtime_ns - world.wall_ns()) < 5e9
        other = (await world.client("B")).task()
        with pytest.raises(FileExistsError):
            await other.open("/mnt/f", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        for process in (task, other):
            await process.exit()
        assert await machine.umount("/mnt") == []

    run_world(story)


def test_whoever_loses_the_race_for_an_exclusive_name_hears_so_after_a_lost_reply_too() -> None:
    async def story(world: World) -> None:
        first, second = await world.client("A", "timeo=10"), await world.client("B", "timeo=10")
        one, two = first.task(), second.task()
        await one.close(await one.open("/mnt/f", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        world.network.faults.append(_only(Procedure.CREATE, lose_reply=True, times=1))
        with pytest.raises(FileExistsError):
            await two.open("/mnt/f", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        for machine, task in ((first, one), (second, two)):
            await task.exit()
            assert await machine.umount("/mnt") == []

    run_world(story)
