"""Per-mount statistics, as /proc/self/mountstats counts them (fs/nfs/iostat.h, net/sunrpc/stats.c)."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, fields

from freepage_proto.rpc import Procedure

EVENTS = (
    "inoderevalidates",
    "dentryrevalidates",
    "datainvalidates",
    "attrinvalidates",
    "vfsopen",
    "vfslookup",
    "vfsaccess",
    "vfsupdatepage",
    "vfsreadpage",
    "vfsreadpages",
    "vfswritepage",
    "vfswritepages",
    "vfsreaddir",
    "vfssetattr",
    "vfsflush",
    "vfsfsync",
    "vfslock",
    "vfsrelease",
    "congestionwait",
    "setattrtrunc",
    "extendwrite",
    "sillyrenames",
    "shortreads",
    "shortwrites",
    "delay",
    "pnfsreads",
    "pnfswrites",
)
"""The 27 event counters, in the order of the ``events:`` line."""


@dataclass(slots=True)
class ByteStats:
    """The 8 byte and page counters, in the order of the ``bytes:`` line."""

    normalread: int = 0
    normalwrite: int = 0
    directread: int = 0
    directwrite: int = 0
    serverread: int = 0
    serverwrite: int = 0
    readpages: int = 0
    writepages: int = 0


BYTES = tuple(each.name for each in fields(ByteStats))

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the execute-time histogram, in seconds; the last bucket is open."""


@dataclass(slots=True)
class OpStats:
    """One procedure's line of ``per-op statistics``. Bytes are NFSv3 over TCP's (XDR), times are summed seconds."""

    ops: int = 0
    transmissions: int = 0
    timeouts: int = 0
    bytes_sent: int = 0
    bytes_recv: int = 0
    queue_s: float = 0.0
    rtt_s: float = 0.0
    execute_s: float = 0.0
    errors: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_S) + 1))

    def observe(self, seconds: float) -> None:
        self.execute_s += seconds
        self.buckets[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1


@dataclass(slots=True)
class XprtStats:
    """The ``xprt:`` line's counters for the transport to a server, which all mounts of a machine share."""

    connects: int = 0
    sends: int = 0
    receives: int = 0
    bad_xids: int = 0
    in_flight: int = 0
    in_flight_sum: int = 0
    max_slots: int = 2
    retransmissions: int = 0


class IoStats:
    """Everything one mount counts: plain integers, rendered by whoever asks."""

    __slots__ = ("age_start_s", "bytes", "events", "ops", "xprt")

    def __init__(self, now_s: float, xprt: XprtStats | None = None) -> None:
        self.age_start_s = now_s
        self.ops: dict[Procedure, OpStats] = {procedure: OpStats() for procedure in Procedure}
        self.events: dict[str, int] = dict.fromkeys(EVENTS, 0)
        self.bytes = ByteStats()
        self.xprt = xprt or XprtStats()
