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
from functools import partial

from freepage_client.nfs.errors import os_error
from freepage_client.nfs.iostat import IoStats, OpStats
from freepage_client.nfs.options import MountOptions
from freepage_client.nfs.sched import RpcWaitQueue
from freepage_client.nfs.transport import Clock, Transport
from freepage_proto import xdr
from freepage_proto.eager import follow
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
        self.soft = options.soft or options.softerr
        self.timeo_s = min(options.timeo_ds / 10, MAX_TIMEOUT_S)
        """the first wait of a call, and what each further one is longer"""
        self.major_s = min(self.timeo_s * (options.retrans + 1), MAX_TIMEOUT_S)
        self.pending = RpcWaitQueue(clock)
        """calls that wait for their reply, for the next connection, or for a server that was busy"""
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

    def epoch(self, now: float) -> int:
        """The connection that something sent ``now`` goes by: the lost one, until it is time for the next."""
        return self._epoch if now >= self._connect_s else self._epoch - 1

    def connection_lost(self, epoch: int, now: float) -> float:
        """A transmission of ``epoch`` found its connection gone; returns how many seconds to wait before the next.

        The first to notice decides when to connect again; calls that were lost with it go out at the same time.
        """
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
        self.pending.close()
        await self.transport.close()


class RpcTask:
    """One call under way (struct rpc_task): a chain of callbacks, as in the kernel. Sent, answered or woken, done.

    A *transmission* is one message with the call's xid. Those of one connection are as good as each other, and the
    first reply answers the call; what comes later, or after the connection was made anew, is counted and dropped.
    """

    __slots__ = (
        "_args",
        "_auth",
        "_client",
        "_epoch",
        "_error",
        "_header",
        "_major_at_s",
        "_op",
        "_procedure",
        "_result",
        "_round",
        "_soft",
        "_start_s",
        "_then",
        "_under_way",
        "_wait_s",
        "due_s",
        "woken",
    )

    def __init__(
        self, client: RpcClient, procedure: Procedure, args: object, auth: AuthSys, may_time_out: bool
    ) -> None:
        self._client = client
        self._procedure = procedure
        self._args = args
        self._auth = auth
        self._soft = client.soft or may_time_out
        self._op: OpStats = client.stats.ops[procedure]
        self._round = 0
        """changes with whatever makes replies to earlier transmissions worthless: a lost connection, another xid"""
        self._error: Exception | None = None
        self._result: object = None
        self._then: Callable[[RpcTask], None] | None = None
        """who is told that the call is done; None while nobody has asked"""
        self.due_s = 0.0
        """when ``woken`` is called, while the call is in the client's queue"""
        self.woken: Callable[[RpcTask], None] = RpcTask._timed_out
        self._begin()

    # The end of a call, for those who wait for it.

    @property
    def done(self) -> bool:
        return not self._under_way and self not in self._client.pending

    def then(self, callback: Callable[[RpcTask], None]) -> None:
        """Have ``callback`` called, once, when the call is done (rpc_call_done): now if it is."""
        self._then = callback
        if self.done:
            callback(self)

    def reply(self) -> object:
        """The typed result of a call that is done. Raises OSError when there is none, as ``RpcClient.call`` says."""
        if self._error is not None:
            raise self._error
        return self._result

    async def result(self) -> object:
        """Wait for the reply, and return or raise what ``reply`` does. Who stops waiting ends the retransmissions."""
        if not self.done:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._then = lambda _: None if waiter.done() else waiter.set_result(None)
            try:
                await waiter
            finally:
                self._abandon()
        return self.reply()

    def _abandon(self) -> None:
        self._client.pending.leave(self)
        if self._under_way:
            self._end_of_round()

    def _finish(self) -> None:
        if self._then is not None:
            self._then(self)

    # Sending.

    def _begin(self) -> None:
        """A call with an xid of its own: the first, or the next after NFS3ERR_JUKEBOX."""
        client = self._client
        if client.trace is not None:
            client.trace(self._procedure, self._args)
        self._header = client.next_header(self._auth)
        self._op.bytes_sent += xdr.call_size(self._procedure, self._args, self._auth)
        self._start_s = now = client.clock.now()
        self._round += 1
        self._under_way = True
        client.in_flight += 1
        xprt = client.stats.xprt
        if client.in_flight > xprt.max_slots:
            xprt.max_slots = client.in_flight
        self._wait_s = client.timeo_s
        self._major_at_s = now + client.major_s
        self._transmit(now)

    def _transmit(self, now: float) -> None:
        client = self._client
        xprt = client.stats.xprt
        self._epoch = client.epoch(now)
        self._op.transmissions += 1
        xprt.sends += 1
        xprt.in_flight_sum += client.in_flight
        client.pending.sleep_on(self, now + self._wait_s, RpcTask._timed_out)
        message = client.transport.call(self._procedure, self._header, self._args)
        follow(message, partial(self._replied, self._round))

    def _retransmit(self) -> None:
        self._client.stats.xprt.retransmissions += 1
        self._transmit(self._client.clock.now())

    # What comes of it.

    def _replied(self, round_: int, result: object, error: Exception | None) -> None:
        """A transmission has ended."""
        current = self._under_way and round_ == self._round
        if error is None:
            xprt = self._client.stats.xprt
            xprt.receives += 1
            if current:
                self._answered(result)
            else:
                xprt.bad_xids += 1
        elif not isinstance(error, RpcError):
            raise error
        elif not current or isinstance(error, RpcTimedOut):
            pass  # the transport has given this transmission up: silence, and the timer runs anyway
        elif isinstance(error, RpcConnectionLost):
            self._connection_lost(error)
        else:  # no answer of the protocol's own, and none to come
            self._op.errors += 1
            self._fail(os_error(_ERRNO_OF[type(error)]), error)

    def _answered(self, result: object) -> None:
        client, op = self._client, self._op
        self._end_of_round()
        client.recovered()
        op.bytes_recv += xdr.reply_size(self._procedure, result)
        status = getattr(result, "status", 0)
        if status:
            op.errors += 1
            if status is NfsStat3.JUKEBOX:
                client.stats.events["delay"] += 1
                client.pending.sleep_on(self, client.clock.now() + JUKEBOX_RETRY_S, RpcTask._begin)
                return
        self._result = result
        self._finish()

    def _connection_lost(self, lost: RpcConnectionLost) -> None:
        client = self._client
        now = client.clock.now()
        if self._soft and now >= self._major_at_s:
            self._fail(client.give_up(), lost)
            return
        self._round += 1
        pause_s = client.connection_lost(self._epoch, now)
        if pause_s > 0.0:
            client.complain()
            client.pending.sleep_on(self, now + pause_s, RpcTask._retransmit)
        else:
            self._retransmit()

    def _timed_out(self) -> None:
        """Nothing came for as long as one transmission may take (xprt_adjust_timeout, in jiffies)."""
        client = self._client
        now = client.clock.now()
        if now < self._major_at_s - HALF_TICK_S:
            self._wait_s = min(self._wait_s + client.timeo_s, client.major_s)
        else:
            self._op.timeouts += 1
            if self._soft:
                self._fail(client.give_up())
                return
            client.complain()
            self._wait_s = client.timeo_s
            self._major_at_s = now + client.major_s
        self._retransmit()

    def _fail(self, error: Exception, cause: Exception | None = None) -> None:
        self._end_of_round()
        error.__cause__ = cause
        self._error = error
        self._finish()

    def _end_of_round(self) -> None:
        """The call with this xid is over, however it ended."""
        client, op = self._client, self._op
        client.pending.leave(self)
        self._under_way = False
        client.in_flight -= 1
        op.ops += 1
        elapsed = client.clock.now() - self._start_s
        op.rtt_s += elapsed
        op.observe(elapsed)


_ERRNO_OF: dict[type[RpcError], int] = {
    RpcGarbageArgs: errno.EIO,
    RpcAuthError: errno.EACCES,
    RpcProcedureUnavailable: errno.EOPNOTSUPP,
    RpcSystemError: errno.EIO,
}
