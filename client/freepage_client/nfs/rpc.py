"""Calls: transaction ids, retransmission, statistics (net/sunrpc/clnt.c, xprt.c, stats.c).

A call keeps its xid over every retransmission, so that the server's duplicate request cache can recognise it. Over TCP
Linux waits timeo, retransmits, and waits timeo longer each time. When timeo x (retrans + 1) have passed since it began
(xprt_calc_majortimeo) it is a major timeout: a hard mount says so once and starts over, a soft mount gives up with EIO
(softerr: ETIMEDOUT).

A connection that breaks is made again at once when it had lasted, and every three seconds while it is refused; every
call under way then goes out again on the new one.

``start`` sends at once and returns; that is what makes calls leave in the order in which they were asked for, whether
somebody waits for the answer or not.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import Callable

from freepage_client.nfs.errors import os_error
from freepage_client.nfs.iostat import IoStats, OpStats
from freepage_client.nfs.options import MountOptions
from freepage_client.nfs.transport import Clock, Transport
from freepage_proto import xdr
from freepage_proto.eager import begin
from freepage_proto.nfs3 import NfsStat3
from freepage_proto.rpc import (
    AuthSys,
    CallHeader,
    Procedure,
    RpcAuthError,
    RpcConnectionLost,
    RpcError,
    RpcGarbageArgs,
    RpcProcedureUnavailable,
    RpcSystemError,
    RpcTimedOut,
)

JUKEBOX_RETRY_S = 5.0
"""NFS_JUKEBOX_RETRY_TIME: how long a call waits after NFS3ERR_JUKEBOX before it is made again."""

RECONNECT_S = 3.0
"""Attempts to connect are at least this far apart: XS_TCP_INIT_REEST_TO after a connection that the server ended, and
the pause that call_connect_status makes after a refusal. The doubling up to XS_TCP_MAX_REEST_TO does not come to bear:
a socket that could not be connected is closed, and xs_close begins anew."""

HALF_TICK_S = 0.002
"""Half a jiffy at HZ=250: sums of seconds that would be equal in jiffies differ in their last bits."""
MAX_TIMEOUT_S = 600.0
"""NFS_MAX_TCP_TIMEOUT: no single wait is longer."""

Trace = Callable[[Procedure, object], None]


class RpcClient:
    """All calls of one mount to its server. ``trace`` sees each call in the order in which they are sent."""

    def __init__(
        self,
        *,
        transport: Transport,
        clock: Clock,
        stats: IoStats,
        options: MountOptions,
        client_id: str,
        boot_instance: int,
        xids: itertools.count[int],
        on_message: Callable[[str], None],
        server: str,
    ) -> None:
        self.transport = transport
        self.clock = clock
        self.options = options
        self.stats = stats
        self.trace: Trace | None = None
        self.in_flight = 0
        self._client_id = client_id
        self._boot_instance = boot_instance
        self._xids = xids
        self._on_message = on_message
        self._server = server
        self._not_responding = False
        self._epoch = 0
        """counts the connections that were lost"""
        self._connect_s = clock.now()
        """when the connection of this epoch was, or will be, asked for"""

    def start(self, procedure: Procedure, args: object, auth: AuthSys, *, may_time_out: bool = False) -> RpcTask:
        """Send one call now. ``await task.result()`` gives its reply; nothing is lost if nobody does so for a while."""
        return RpcTask(self, procedure, args, auth, may_time_out)

    async def call(self, procedure: Procedure, args: object, auth: AuthSys, *, may_time_out: bool = False) -> object:
        """Make one call; return the procedure's typed result, whatever its status.

        Raises OSError when a soft mount (or ``may_time_out``, as softreval asks) gives up, or when the server cannot
        be spoken to at all: EIO, ETIMEDOUT, EACCES, EOPNOTSUPP.
        """
        return await RpcTask(self, procedure, args, auth, may_time_out).result()

    def next_header(self, auth: AuthSys) -> CallHeader:
        return CallHeader(self._client_id, self._boot_instance, next(self._xids) & 0xFFFFFFFF, auth)

    def epoch(self) -> int:
        """The connection that something sent now goes by: the lost one, until it is time for the next."""
        return self._epoch if self.clock.now() >= self._connect_s else self._epoch - 1

    def connection_lost(self, epoch: int) -> float:
        """A transmission of ``epoch`` found its connection gone; returns how many seconds to wait before the next.

        The first to notice decides when to connect again; calls that were lost with it go out at the same time.
        """
        now = self.clock.now()
        if epoch == self._epoch:
            self._epoch += 1
            self._connect_s = max(now, self._connect_s + RECONNECT_S)
            self.stats.xprt.connects += 1
        return max(0.0, self._connect_s - now)

    def complain(self) -> None:
        if not self._not_responding:
            self._not_responding = True
            self._on_message(f"nfs: server {self._server} not responding, still trying")

    def recovered(self) -> None:
        if self._not_responding:
            self._not_responding = False
            self._on_message(f"nfs: server {self._server} OK")

    def give_up(self) -> OSError:
        self._on_message(f"nfs: server {self._server} not responding, timed out")
        return os_error(errno.ETIMEDOUT if self.options.softerr else errno.EIO)

    async def close(self) -> None:
        await self.transport.close()


class _Answer:
    """What the transmissions of one call have brought so far: nothing, a result, or how they failed."""

    __slots__ = ("done", "error", "result", "waiter")

    def __init__(self) -> None:
        self.done = False
        self.result: object = None
        self.error: RpcError | None = None
        self.waiter: asyncio.Future[None] | None = None
        """of whoever waits for the answer now"""

    def wake(self) -> None:
        """The answer is there, or it has been waited for long enough."""
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class RpcTask:
    """One call under way (struct rpc_task)."""

    __slots__ = ("_answer", "_args", "_client", "_epoch", "_header", "_op", "_procedure", "_soft", "_start_s")

    def __init__(
        self, client: RpcClient, procedure: Procedure, args: object, auth: AuthSys, may_time_out: bool
    ) -> None:
        self._client = client
        self._procedure = procedure
        self._args = args
        self._soft = may_time_out or client.options.soft or client.options.softerr
        self._op: OpStats = client.stats.ops[procedure]
        self._begin(auth)

    def _begin(self, auth: AuthSys) -> None:
        client = self._client
        if client.trace is not None:
            client.trace(self._procedure, self._args)
        self._header = client.next_header(auth)
        self._op.bytes_sent += xdr.call_size(self._procedure, self._args, auth)
        self._start_s = client.clock.now()
        self._answer = _Answer()
        client.in_flight += 1
        xprt = client.stats.xprt
        if client.in_flight > xprt.max_slots:
            xprt.max_slots = client.in_flight
        self._transmit()

    def _transmit(self) -> None:
        xprt = self._client.stats.xprt
        self._epoch = self._client.epoch()
        self._op.transmissions += 1
        xprt.sends += 1
        xprt.in_flight_sum += self._client.in_flight
        task = begin(self._send(self._answer))
        if task is not None:
            _TRANSMISSIONS.add(task)

    async def _send(self, answer: _Answer) -> None:
        """One transmission. The first reply answers the call; later ones to the same xid are counted and dropped."""
        try:
            result = await self._client.transport.call(self._procedure, self._header, self._args)
        except RpcTimedOut:
            return  # the transport has given this transmission up: silence, and the retransmission timer runs anyway
        except RpcError as error:
            if not answer.done:
                answer.done = True
                answer.error = error
                answer.wake()
            return
        finally:
            _TRANSMISSIONS.discard(asyncio.current_task())
        self._client.stats.xprt.receives += 1
        if answer.done:
            self._client.stats.xprt.bad_xids += 1
        else:
            answer.done = True
            answer.result = result
            answer.wake()

    async def result(self) -> object:
        """Wait for the reply, retransmitting as the mount says. NFS3ERR_JUKEBOX is asked again after five seconds."""
        result = await self._finish()
        while getattr(result, "status", None) is NfsStat3.JUKEBOX:
            self._client.stats.events["delay"] += 1
            await self._client.clock.sleep(JUKEBOX_RETRY_S)
            self._begin(self._header.cred)
            result = await self._finish()
        return result

    async def _finish(self) -> object:
        client, op = self._client, self._op
        try:
            result = await self._wait_and_retransmit()
        except (RpcGarbageArgs, RpcAuthError, RpcProcedureUnavailable, RpcSystemError) as error:
            op.errors += 1
            raise os_error(_ERRNO_OF[type(error)]) from error
        finally:
            client.in_flight -= 1
            op.ops += 1
            elapsed = client.clock.now() - self._start_s
            op.rtt_s += elapsed
            op.observe(elapsed)
        client.recovered()
        op.bytes_recv += xdr.reply_size(self._procedure, result)
        if getattr(result, "status", 0):
            op.errors += 1
        return result

    async def _wait_and_retransmit(self) -> object:
        client = self._client
        timeo_s = min(client.options.timeo_ds / 10, MAX_TIMEOUT_S)
        major_s = min(timeo_s * (client.options.retrans + 1), MAX_TIMEOUT_S)
        wait_s = timeo_s
        major_at_s = self._start_s + major_s
        while True:
            try:
                if await self._answered_within(wait_s):
                    return self._answer.result
            except RpcConnectionLost as lost:
                if self._soft and client.clock.now() >= major_at_s:
                    raise client.give_up() from lost
                pause_s = client.connection_lost(self._epoch)
                if pause_s > 0.0:
                    client.complain()
                    await client.clock.sleep(pause_s)
                self._answer = _Answer()
            else:
                if client.clock.now() < major_at_s - HALF_TICK_S:  # xprt_adjust_timeout, in jiffies
                    wait_s = min(wait_s + timeo_s, major_s)
                else:
                    self._op.timeouts += 1
                    if self._soft:
                        raise client.give_up()
                    client.complain()
                    wait_s = timeo_s
                    major_at_s = client.clock.now() + major_s
            client.stats.xprt.retransmissions += 1
            self._transmit()

    async def _answered_within(self, seconds: float) -> bool:
        """False after ``seconds`` without an answer; the transmission is left to itself, not cancelled.

        Raises what the transport raised.
        """
        answer = self._answer
        if not answer.done:
            loop = asyncio.get_running_loop()
            answer.waiter = loop.create_future()
            timer = loop.call_later(seconds, answer.wake)
            try:
                await answer.waiter
            finally:
                timer.cancel()
                answer.waiter = None
        if answer.error is not None:
            raise answer.error
        return answer.done


_TRANSMISSIONS: set[asyncio.Task[None] | None] = set()
"""The event loop keeps only weak references to tasks; a transmission must live until it is answered."""

_ERRNO_OF: dict[type[RpcError], int] = {
    RpcGarbageArgs: errno.EIO,
    RpcAuthError: errno.EACCES,
    RpcProcedureUnavailable: errno.EOPNOTSUPP,
    RpcSystemError: errno.EIO,
}
