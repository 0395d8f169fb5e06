"""What the client's RPC layer makes of a transport's errors: silence, a lost connection, or an errno."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable

import pytest

from freepage_client.nfs.iostat import IoStats
from freepage_client.nfs.options import parse_mount_options
from freepage_client.nfs.rpc import RpcClient
from freepage_lab.sim.loop import run
from freepage_proto.nfs3 import NullArgs, NullRes
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
from freepage_runtime.clock import LoopClock


class Scripted:
    """A transport that fails as it is told, then answers."""

    def __init__(self, *errors: RpcError) -> None:
        self.errors = list(errors)
        self.xids: list[int] = []

    async def call(self, procedure: Procedure, header: CallHeader, args: object) -> object:
        self.xids.append(header.xid)
        if self.errors:
            raise self.errors.pop(0)
        return NullRes()

    async def close(self) -> None:
        pass


def call(transport: Scripted, options: str = "", look: Callable[[IoStats], None] = lambda stats: None) -> object:
    async def main() -> object:
        stats = IoStats(0.0)
        client = RpcClient(
            transport=transport,
            clock=LoopClock(),
            stats=stats,
            options=parse_mount_options(options),
            client_id="a",
            boot_instance=1,
            xids=itertools.count(7),
            on_message=lambda text: None,
            server="server",
        )
        result = await client.call(Procedure.NULL, NullArgs(), AuthSys())
        look(stats)
        return result

    return run(main())


@pytest.mark.parametrize("error", [RpcTimedOut("late"), RpcConnectionLost("gone")])
def test_a_hard_mount_sends_again_with_the_same_xid(error: RpcError) -> None:
    def look(stats: IoStats) -> None:
        assert stats.ops[Procedure.NULL].ops == 1
        assert stats.ops[Procedure.NULL].transmissions == 2

    transport = Scripted(error)
    assert call(transport, look=look) == NullRes()
    assert transport.xids == [7, 7]


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (RpcGarbageArgs("odd"), errno.EIO),
        (RpcSystemError("broken"), errno.EIO),
        (RpcAuthError("not you"), errno.EACCES),
        (RpcProcedureUnavailable("what"), errno.EOPNOTSUPP),
    ],
)
def test_a_refusal_is_an_errno_and_no_retransmission(error: RpcError, number: int) -> None:
    transport = Scripted(error)
    with pytest.raises(OSError) as caught:
        call(transport)
    assert caught.value.errno == number
    assert len(transport.xids) == 1


def test_a_soft_mount_gives_up_on_silence() -> None:
    transport = Scripted(*(RpcTimedOut("late") for _ in range(9)))
    with pytest.raises(OSError) as caught:
        call(transport, "soft,timeo=10,retrans=2")
    assert caught.value.errno == errno.EIO
    # Sent at 0 and 1 s; the major time-out of timeo * (retrans + 1) = 3 s falls on the end of the second wait, of 2 s.
    assert transport.xids == [7, 7]
