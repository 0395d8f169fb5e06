"""The network of a real client: calls travel to servers over gRPC.

Here, and nowhere else in the client, plain types become messages and gRPC's errors become the errors of RPC. One
channel per server is shared by everybody in the process who speaks to it (the emulated clients of a load generator),
unless told otherwise; gRPC connects when the first call is made, and again after a connection broke.

gRPC retries nothing by itself: retransmission with the same xid is the NFS client's own business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

import grpc
import grpc.aio

from freepage_proto.convert import METHODS
from freepage_proto.nfs3 import CommitRes, NfsStat3, WriteRes
from freepage_proto.rpc import (
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
from freepage_runtime import credentials
from freepage_runtime.histogram import LatencyHistogram
from freepage_runtime.reasons import brief
from freepage_runtime.settings import Address, parse_address
from freepage_runtime.tls import TlsFiles

NFS_PORT = 2049
"""Where a server listens whose name comes without a port."""

MAX_MESSAGE_BYTES = 4 << 20
"""The largest message either way: four times the largest READ, WRITE or READDIR."""

CALL_DEADLINE_S = 600.0
"""When a transmission without an answer is given up. No wait of an NFS client is longer (NFS_MAX_TCP_TIMEOUT)."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),  # http_proxy in the environment is for the web
    # gRPC's own back-off goes up to two minutes; the NFS client waits between its attempts by itself. What is called
    # the least back-off is also how long one attempt may take: over a slow network none succeeds in 100 ms.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 20_000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A server whose machine vanished without a word is noticed while calls wait for it.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),  # or the ping waits a minute, whatever the line above says
    # Channels of one process share connections otherwise, and "a channel of its own" would be none.
    ("grpc.use_local_subchannel_pool", 1),
)

_ERRORS: dict[grpc.StatusCode, type[RpcError]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: RpcTimedOut,
    grpc.StatusCode.UNAVAILABLE: RpcConnectionLost,
    grpc.StatusCode.CANCELLED: RpcConnectionLost,  # the server stopped, or the channel was closed
    grpc.StatusCode.ABORTED: RpcConnectionLost,
    grpc.StatusCode.INVALID_ARGUMENT: RpcGarbageArgs,
    grpc.StatusCode.OUT_OF_RANGE: RpcGarbageArgs,
    grpc.StatusCode.UNAUTHENTICATED: RpcAuthError,
    grpc.StatusCode.PERMISSION_DENIED: RpcAuthError,
    grpc.StatusCode.UNIMPLEMENTED: RpcProcedureUnavailable,
}
"""What a call's gRPC status means; for what is not here see `_translate`."""

SERVERS_OWN = "internal error, request "
"""How the service's words begin when it failed itself (freepage_server.io.service)."""


@dataclass(slots=True)
class ProcedureCalls:
    """Transmissions of one procedure: how many, how many without a reply of the protocol's own, how long they took."""

    calls: int = 0
    failures: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


class CallStats:
    """What a process sent, by procedure, and what it was told; it only grows, whatever mounts come and go.

    Every procedure and every error status is there from the start. ``verifier_changes`` counts the replies to WRITE
    and COMMIT whose write verifier is not the one that their server sent before: it restarted, or lost unstable data.
    """

    def __init__(self) -> None:
        self.by_procedure: dict[Procedure, ProcedureCalls] = {procedure: ProcedureCalls() for procedure in Procedure}
        self.error_replies: dict[NfsStat3, int] = {status: 0 for status in NfsStat3 if status}
        self.verifier_changes = 0
        self._verifiers: dict[Address, bytes] = {}

    def note(self, server: Address, result: object) -> None:
        """Look at a reply's status and write verifier."""
        status = getattr(result, "status", None)
        if status:
            if isinstance(status, NfsStat3):
                self.error_replies[status] += 1
        elif isinstance(result, (WriteRes, CommitRes)):  # a union is made anew each time
            before = self._verifiers.get(server)
            if before != result.verf:
                self._verifiers[server] = result.verf
                self.verifier_changes += before is not None


class _Channel:
    """A connection to one server, and the callable of each of its methods; closed when nobody uses it any more."""

    __slots__ = ("address", "channel", "methods", "users")

    def __init__(self, address: Address, tls: TlsFiles | None) -> None:
        self.address = address
        self.users = 0
        target = f"dns:///{address}"
        secure = credentials.for_channel(tls)
        if secure is None:
            self.channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        else:
            options = (*CHANNEL_OPTIONS, *credentials.channel_options(tls))
            self.channel = grpc.aio.secure_channel(target, secure, options=options)
        # No serializers: what goes in and comes out is bytes, made and read by freepage_proto.convert.
        self.methods: dict[Procedure, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {
            procedure: self.channel.unary_unary(method.path) for procedure, method in METHODS.items()
        }


class GrpcNetwork:
    """How a client machine reaches servers by name: ``host:port``, ``[ipv6]:port``, or a host with NFS's own port.

    ``share_channels``: one connection per server for all transports, or one each. With ``tls`` the
    connections are encrypted, and servers have to show a certificate. ``stats`` counts every transmission.
    """

    def __init__(
        self,
        *,
        tls: TlsFiles | None = None,
        share_channels: bool = True,
        call_deadline_s: float = CALL_DEADLINE_S,
        stats: CallStats | None = None,
    ) -> None:
        self.stats = stats if stats is not None else CallStats()
        self.call_deadline_s = call_deadline_s
        self._tls = tls
        self._share_channels = share_channels
        self._shared: dict[Address, _Channel] = {}
        self._open: set[_Channel] = set()

    def connect(self, server: str) -> GrpcTransport:
        """A transport to ``server``. Nothing is sent yet; raises SettingError when the name is no address."""
        address = parse_address(server, default_port=NFS_PORT)
        channel = self._shared.get(address)
        if channel is None:
            channel = _Channel(address, self._tls)
            self._open.add(channel)
            if self._share_channels:
                self._shared[address] = channel
        channel.users += 1
        return GrpcTransport(self, channel)

    async def release(self, channel: _Channel) -> None:
        """One user of a channel less; the last one closes it."""
        channel.users -= 1
        if channel.users == 0 and channel in self._open:
            self._open.discard(channel)
            if self._shared.get(channel.address) is channel:
                del self._shared[channel.address]
            await channel.channel.close()

    async def close(self) -> None:
        """Close every connection; calls under way fail with RpcConnectionLost."""
        channels, self._open = self._open, set()
        self._shared.clear()
        for channel in channels:
            await channel.channel.close()


class GrpcTransport:
    """One user's connection to one server, carrying every RPC program it speaks."""

    def __init__(self, network: GrpcNetwork, channel: _Channel) -> None:
        self._network = network
        self._channel = channel
        self._stats = network.stats.by_procedure
        self._closed = False

    async def call(self, procedure: Procedure, header: CallHeader, args: object) -> object:
        """Send one call and return its typed result.

        Raises RpcTimedOut, RpcConnectionLost, RpcGarbageArgs, RpcAuthError, RpcProcedureUnavailable or RpcSystemError.
        """
        method = METHODS[procedure]
        request = method.encode_call(header, args)
        if self._closed:
            raise RpcConnectionLost(f"the connection to {self._channel.address} is closed")
        stats = self._stats[procedure]
        stats.calls += 1
        start_s = monotonic()
        answered = False
        try:
            reply = await self._channel.methods[procedure](request, timeout=self._network.call_deadline_s)
            result: object = method.decode_reply(reply)
            answered = True
            self._network.stats.note(self._channel.address, result)
        except grpc.aio.AioRpcError as error:
            raise _translate(error, self._channel.address) from None
        except grpc.aio.UsageError as error:  # the channel was closed under a new call
            raise RpcConnectionLost(f"the connection to {self._channel.address} is closed") from error
        finally:
            if answered:
                stats.latency.observe(monotonic() - start_s)
            else:
                stats.failures += 1
        return result

    async def close(self) -> None:
        """Stop using the connection. Calling it again does nothing."""
        if not self._closed:
            self._closed = True
            await self._network.release(self._channel)


def _translate(error: grpc.aio.AioRpcError, address: Address) -> RpcError:
    details = error.details() or error.code().name
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # Both "your message is too large", which will be so again, and "too many calls at once", which will not.
        too_large = "larger than max" in details
        return (RpcGarbageArgs if too_large else RpcConnectionLost)(f"{address}: {details}")
    kind = _ERRORS.get(error.code())
    if kind is None:
        # gRPC calls a stream that broke in the middle INTERNAL or UNKNOWN, as it calls a server's failure. To give a
        # call up that may be repeated would make a hard mount lose data.
        kind = RpcSystemError if details.startswith(SERVERS_OWN) else RpcConnectionLost
    return kind(f"{address}: {brief(details)}")
