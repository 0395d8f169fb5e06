"""What the server counts: plain integers, rendered by whoever exports them."""

from __future__ import annotations

from freepage_proto.nfs3 import NfsStat3
from freepage_proto.rpc import Procedure


class ProcedureStats:
    """``calls`` answered, of them ``errors`` with a status other than OK; file data in bytes."""

    __slots__ = ("bytes_read", "bytes_written", "calls", "errors")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.bytes_read = 0
        self.bytes_written = 0


class ServerStats:
    """``by_procedure`` has every procedure from the start, so that what never happened is exported as zero.

    ``storage_*`` count file I/O below the page cache; ``write_verifier_changes`` how often unstable data was declared
    lost; ``foreign_changes`` files that somebody changed behind the server's back. ``error_replies`` counts NFSv3's
    statuses other than OK.
    """

    def __init__(self) -> None:
        self.by_procedure: dict[Procedure, ProcedureStats] = {p: ProcedureStats() for p in Procedure}
        self.error_replies: dict[NfsStat3, int] = {status: 0 for status in NfsStat3 if status}
        self.storage_reads = 0
        self.storage_read_bytes = 0
        self.storage_writes = 0
        self.storage_write_bytes = 0
        self.storage_syncs = 0
        self.foreign_changes = 0
        self.write_verifier_changes = 0
        self.in_flight = 0
