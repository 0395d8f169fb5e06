"""Listens on a client's wire and looks into its page cache, and writes both down as the recordings do.

A :class:`RecordingNetwork` stands between a client and its network and notes every call in the order in which it is
issued, before it is sent. File handles mean nothing to a reader, so the recorder learns from the replies which file
id each belongs to, and a :class:`NameBook` knows what the script calls the file with that id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from freepage_client.nfs.iostat import BYTES, IoStats
from freepage_proto import nfs3
from freepage_proto.rpc import CallHeader, Procedure, Program

if TYPE_CHECKING:
    from freepage import Page
    from freepage_client.nfs.transport import Network, Transport

MODIFYING = frozenset(
    (
        Procedure.SETATTR,
        Procedure.WRITE,
        Procedure.CREATE,
        Procedure.MKDIR,
        Procedure.SYMLINK,
        Procedure.MKNOD,
        Procedure.REMOVE,
        Procedure.RMDIR,
        Procedure.RENAME,
        Procedure.LINK,
        Procedure.COMMIT,
    )
)
"""Calls that leave the server something to write."""
READING = frozenset((Procedure.READ, Procedure.READDIR, Procedure.READDIRPLUS, Procedure.READLINK))
"""Calls that touch the access time of what they read."""

MAX_SEQUENCE = 400
MAX_IO = 2000
"""How many entries of each the recordings hold at most."""

Ranges: TypeAlias = "list[list[int]]"
"""Half-open ranges of page indexes, in order, none touching the next."""


class NameBook:
    """What the script calls each file: the name by which it was last opened, made or renamed."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def set(self, fileid: int, name: str) -> None:
        self._names[fileid] = name

    def setdefault(self, fileid: int, name: str) -> None:
        self._names.setdefault(fileid, name)

    def __getitem__(self, fileid: int) -> str:
        return self._names.get(fileid, "?")

    def __contains__(self, fileid: object) -> bool:
        return fileid in self._names


@dataclass(slots=True)
class WireRecord:
    """What one client sent since the last checkpoint."""

    calls: list[Procedure] = field(default_factory=list)
    """In the order in which they were issued."""
    replies: Counter[Procedure] = field(default_factory=Counter)
    """Calls that were answered: a client's statistics count a call when it ends."""
    io: list[tuple[str, bytes, int, int, str | None]] = field(default_factory=list)
    """READ, WRITE and COMMIT: (kind, file handle, offset, count, how stable)."""

    def ops(self) -> dict[str, int]:
        """NFS procedures by name, those that were not called left out."""
        return {call.name: n for call, n in self.replies.items() if call.program is Program.NFS}

    def sequence(self) -> list[str]:
        """Every call of every program in the order issued, run-length coded: ``READ*3``."""
        return run_lengths(call.display_name for call in self.calls)[:MAX_SEQUENCE]


class RecordingNetwork:
    """A network that writes down what its client sends."""

    def __init__(self, network: Network, on_call: Callable[[Procedure, object], None] | None = None) -> None:
        self._network = network
        self._on_call = on_call
        self.record = WireRecord()
        self.fileids: dict[bytes, int] = {}
        """File id by file handle, as the replies told them, in the order in which they became known."""
        self._newest_with_data: dict[int, bytes] = {}
        """By file id: of the files that had that number one after the other, the last one that was read or written."""

    def connect(self, server: str) -> _RecordingTransport:
        return _RecordingTransport(self, self._network.connect(server))

    def take(self) -> WireRecord:
        """The record since the last time, and begin a new one."""
        record, self.record = self.record, WireRecord()
        return record

    def note_call(self, procedure: Procedure, args: object) -> None:
        self.record.calls.append(procedure)
        if self._on_call is not None:
            self._on_call(procedure, args)
        match args:
            case nfs3.ReadArgs(file, offset, count):
                self.record.io.append(("READ", file, offset, count, None))
                self._note_data(file)
            case nfs3.WriteArgs(file, offset, count, stable):
                self.record.io.append(("WRITE", file, offset, count, stable.name))
                self._note_data(file)
            case nfs3.CommitArgs(file, offset, count):
                self.record.io.append(("COMMIT", file, offset, count, None))

    def note_reply(self, args: Any, result: Any) -> None:
        match result:
            case (
                nfs3.LookupRes(object=handle, attributes=attributes)
                | nfs3.CreateRes(object=handle, attributes=attributes)
            ):
                self._learn(handle, attributes)
            case nfs3.GetattrRes(attributes=attributes):
                self._learn(args.object, attributes)
            case nfs3.ReadRes(attributes=attributes):
                self._learn(args.file, attributes)
            case nfs3.ReaddirRes(entries=entries):
                for entry in entries:
                    self._learn(entry.object, entry.attributes)

    def _note_data(self, handle: bytes) -> None:
        fileid = self.fileids.get(handle)
        if fileid is not None and not self.is_overlaid(handle):
            self._newest_with_data[fileid] = handle

    def is_overlaid(self, handle: bytes) -> bool:
        """Has a later file with the same number been read or written?

        The recordings know a page by its file's number and its index. Whatever a client still holds of a file that
        others have removed, they no longer showed it once pages of the number's next owner had come and gone.
        """
        newest = self._newest_with_data.get(self.fileids.get(handle, -1))
        if newest is None or newest == handle:
            return False
        known = list(self.fileids)
        return known.index(newest) > known.index(handle)

    def _learn(self, handle: bytes | None, attributes: nfs3.Fattr3 | None) -> None:
        if handle is not None and attributes is not None:
            self.fileids[handle] = attributes.fileid


class _RecordingTransport:
    def __init__(self, network: RecordingNetwork, transport: Transport) -> None:
        self._network = network
        self._transport = transport

    async def call(self, procedure: Procedure, header: CallHeader, args: object) -> object:
        self._network.note_call(procedure, args)
        result = await self._transport.call(procedure, header, args)
        self._network.record.replies[procedure] += 1
        self._network.note_reply(args, result)
        return result

    async def close(self) -> None:
        await self._transport.close()


def run_lengths(names: Iterable[str]) -> list[str]:
    """``["READ", "READ", "COMMIT"]`` becomes ``["READ*2", "COMMIT"]``."""
    runs: list[tuple[str, int]] = []
    for name in names:
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1] + 1)
        else:
            runs.append((name, 1))
    return [name if times == 1 else f"{name}*{times}" for name, times in runs]


def io_list(entries: Iterable[tuple[str, str, int, int, str | None]]) -> list[list[Any]]:
    """``[kind, file, offset, count(, stable(, n))]``: n consecutive requests of one size fold into one entry."""
    runs: list[list[Any]] = []
    for kind, file, offset, count, stable in entries:
        if runs and count:
            last = runs[-1]
            if last[:2] == [kind, file] and last[3:5] == [count, stable] and last[2] + count * last[5] == offset:
                last[5] += 1
                continue
        runs.append([kind, file, offset, count, stable, 1])
    return [_trimmed(run) for run in runs[:MAX_IO]]


def _trimmed(run: list[Any]) -> list[Any]:
    if run[5] > 1:
        return run
    return run[:4] if run[4] is None else run[:5]


def ranges(indexes: Iterable[int]) -> Ranges:
    """Page indexes in order, as half-open ranges."""
    found: Ranges = []
    for index in indexes:
        if found and found[-1][1] == index:
            found[-1][1] = index + 1
        else:
            found.append([index, index + 1])
    return found


def page_states(pages: Iterable[Page]) -> dict[str, Any]:
    """The page cache of one file, by state; states in which no page is are left out. ``pages`` in index order.

    *Unstable* is a page with a write request that is neither dirty nor under writeback: written, waiting for COMMIT.
    """
    pages = list(pages)
    states: dict[str, Any] = {
        "resident": ranges(page.index for page in pages),
        "notuptodate": ranges(page.index for page in pages if not page.uptodate),
        "dirty": ranges(page.index for page in pages if page.dirty),
        "writeback": ranges(page.index for page in pages if page.writeback),
        "unstable": ranges(
            page.index for page in pages if page.private is not None and not page.dirty and not page.writeback
        ),
        "active": ranges(page.index for page in pages if page.active),
    }
    return {**{state: found for state, found in states.items() if found}, "n": len(pages)}


def counters_of(stats: IoStats) -> Counter[str]:
    """The lines ``events:`` and ``bytes:`` of mountstats, as the recorder calls them."""
    counters = Counter(stats.events)
    counters["vfsgetdents"] = counters.pop("vfsreaddir")
    counters.update({name: getattr(stats.bytes, name) for name in BYTES})
    return counters


def named_io(record: WireRecord, fileids: dict[bytes, int], names: NameBook) -> list[list[Any]]:
    """The record's READ, WRITE and COMMIT calls with the files' names as they are known now."""

    def entries() -> Iterator[tuple[str, str, int, int, str | None]]:
        for kind, handle, offset, count, stable in record.io:
            fileid = fileids.get(handle)
            yield kind, "?" if fileid is None else names[fileid], offset, count, stable

    return io_list(entries())
