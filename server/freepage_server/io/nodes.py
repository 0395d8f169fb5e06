"""The inodes of an exported directory, found by their keys: held open, where they were seen last, or by a search.

Every access starts at a descriptor of the export's root and takes one name at a time, beneath it (`beneath`). An inode
in use is held by an O_PATH descriptor, so that an operation on it cannot be led to another one by renaming things
meanwhile; what is mounted inside is not entered.

Where each inode was last seen is recorded in memory and, given a table (`state.InodeTable`), on disk. An inode that is
not there any more is looked for in the directory where it was, then in the whole export as far as `MAX_SEARCHED` names
go. A key whose inode is not found, or whose number now belongs to another, raises ESTALE.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import stat as stat_bits
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from freepage_proto.names import readable
from freepage_server.io.beneath import look
from freepage_server.io.listing import names_in
from freepage_server.io.node import Node, error, identity, key_of
from freepage_server.io.state import FLUSH_AFTER_S, MAX_PENDING, InodeTable, Record
from freepage_server.nfsd.storage import Key

MAX_NODES = 65536
"""Inodes remembered in memory, where a table on disk knows the others."""
MAX_SEARCHED = 100_000
"""Names looked at to find an inode that another program moved: at most some 100 ms in which nothing else is done."""
MAX_STALE = 4096
"""Keys known to be stale: nobody makes the server search for the same file twice."""
MAX_DEPTH = 4096
"""Directories above one another; more is a circle, which a race with another program's renaming can leave behind."""
_NOT_THERE = (errno.ENOENT, errno.ESTALE, errno.ENOTDIR)


class Nodes:
    """``table`` opens the durable table of the directory with this key; without it keys are found again only when their
    names are looked up. ``offload``: there is an event loop, and threads. Raises OSError when ``path`` is no directory.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, offload: bool, table: Callable[[Key], InodeTable] | None
    ) -> None:
        self.path = Path(path)
        self._offload = offload
        self._nodes: OrderedDict[Key, Node] = OrderedDict()
        self._by_ino: dict[int, Node] = {}
        self._held: OrderedDict[Key, Node] = OrderedDict()
        self._stale: OrderedDict[Key, str] = OrderedDict()
        """where each was seen last, for `describe`"""
        self._max_nodes = MAX_NODES
        self._flush_timer: asyncio.TimerHandle | None = None
        self._descriptors = _descriptor_limit()
        self._max_held = max(32, min(4096, self._descriptors // 4))
        self._open_table = table
        self._root, self._dev, self._table = self._open_root()
        self._by_ino[self._root.ino] = self._root

    def _open_root(self) -> tuple[Node, int, InodeTable | None]:
        """The directory at ``path``, its device, and what is known of it from earlier lives."""
        fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            st = os.fstat(fd)
            version, birth_ns = identity(fd, st)
            root = Node(key_of(st.st_ino, version, birth_ns), st.st_mode, version, birth_ns)
            root.fd = fd  # never closed to make room, so it is in neither _held nor _nodes
            return root, st.st_dev, None if self._open_table is None else self._open_table(root.key)
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        """Close every descriptor, and the table when it is written. No operation may follow."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if self._table is not None:
            self._table.close()
        for node in (self._root, *self._held.values()):
            if node.fd is not None:
                os.close(node.fd)
                node.fd = None
        self._nodes.clear()
        self._by_ino.clear()
        self._held.clear()

    def reopen(self) -> bool:
        """Serve the directory that is at ``path`` now, if the one served so far was removed. False: there is none.

        Handles into the old one are stale, and nobody looks for their files in the new one.
        """
        assert self._root.fd is not None
        if os.fstat(self._root.fd).st_nlink:
            return False
        try:
            root, dev, table = self._open_root()
        except OSError:
            return False
        stale = [self._root.key, *self._nodes]
        self.close()
        self._root, self._dev, self._table = root, dev, table
        self._by_ino[root.ino] = root
        self._stale.update(dict.fromkeys(stale[-MAX_STALE:], ""))
        return True

    def root(self) -> Key:
        return self._root.key

    def _adopt(self, fd: int, parent: Node, name: bytes) -> Node:
        """The node of an inode just opened as ``name``; takes ``fd`` over. Raises EACCES for a mount point."""
        try:
            st = os.fstat(fd)
            if st.st_dev != self._dev:
                raise error(errno.EACCES)
            node = self._by_ino.get(st.st_ino)
            if node is None or node.fd is None:
                # Nobody holds the inode that had this number, so it may have been used again.
                version, birth_ns = identity(fd, st)
                if node is not None and not node.is_same(version, birth_ns):
                    self._forget(node)
                    node = None
                if node is None:
                    node = self._recorded_as(st.st_ino, version, birth_ns)
                if node is None:
                    node = Node(key_of(st.st_ino, version, birth_ns), st.st_mode, version, birth_ns)
                self._stale.pop(node.key, None)
                if node.key not in self._nodes:
                    self._insert(node)
        except BaseException:
            os.close(fd)
            raise
        self._place(node, parent, name)
        if node.fd is None:
            self._hold(node, fd)
        else:
            os.close(fd)
        return node

    def _recorded_as(self, ino: int, version: int | None, birth_ns: int | None) -> Node | None:
        """What the table knows of an inode; what it knows of earlier ones with that number is forgotten."""
        if self._table is None:
            return None
        found = None
        for key in self._table.with_number(ino):
            record = self._table.get(key)
            if record is None:
                continue
            node = Node.recorded(key, record)
            if found is None and node.is_same(version, birth_ns):
                found = node
            else:
                self._record(key, None)
        return found

    def _insert(self, node: Node) -> None:
        self._nodes[node.key] = self._by_ino[node.ino] = node
        if self._table is not None and len(self._nodes) > self._max_nodes:
            key, oldest = next(iter(self._nodes.items()))
            if oldest.fd is not None or oldest.pins:
                self._nodes.move_to_end(key)  # in use: the next oldest then, at the next insertion
                return
            del self._nodes[key]
            if self._by_ino.get(oldest.ino) is oldest:
                del self._by_ino[oldest.ino]

    def _place(self, node: Node, parent: Node, name: bytes) -> None:
        """Record where the inode is."""
        if node is not self._root and (node.parent != parent.key or node.name != name):
            node.parent, node.name = parent.key, name
            self._record(node.key, node.record())

    def _record(self, key: Key, record: Record | None) -> None:
        """Put into the table what will be written soon, together with what comes meanwhile."""
        table = self._table
        if table is None:
            return
        table.put(key, record)
        if table.pending >= MAX_PENDING:
            table.flush()
        elif self._flush_timer is None and self._offload:
            self._flush_timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self._flush_soon)

    def _flush_soon(self) -> None:
        self._flush_timer = None
        if self._table is not None and self._table.pending:
            self._table.take()
            written = asyncio.get_running_loop().run_in_executor(None, self._table.write)
            written.add_done_callback(lambda done: done.exception())

    def _hold(self, node: Node, fd: int) -> None:
        earlier = self._held.pop(node.key, None)
        if earlier is not None and earlier.fd is not None:
            os.close(earlier.fd)  # the same inode, forgotten in memory and read from the table again
            earlier.fd = None
        node.fd = fd
        self._held[node.key] = node
        if len(self._held) > self._max_held:
            oldest = next(held for held in self._held.values() if not held.pins)
            del self._held[oldest.key]
            assert oldest.fd is not None
            os.close(oldest.fd)
            oldest.fd = None

    @contextmanager
    def _pinned(self, node: Node) -> Iterator[int]:
        """The inode's O_PATH descriptor, kept open for the block while others are opened."""
        fd = self._fd(node)
        node.pins += 1
        try:
            yield fd
        finally:
            node.pins -= 1

    def _forget(self, node: Node) -> None:
        """The inode is gone: its key is stale from now on."""
        last_name = self.describe(node.key)
        self._nodes.pop(node.key, None)
        if self._by_ino.get(node.ino) is node:
            del self._by_ino[node.ino]
        self._held.pop(node.key, None)
        if node.fd is not None:
            os.close(node.fd)
            node.fd = None
        self._record(node.key, None)
        self._stale[node.key] = last_name
        if len(self._stale) > MAX_STALE:
            self._stale.popitem(last=False)

    def _node(self, key: Key) -> Node:
        node = self._nodes.get(key)
        if node is not None:
            return node
        if key == self._root.key:
            return self._root
        if self._table is None or key in self._stale or len(key) != len(self._root.key):
            raise error(errno.ESTALE)
        record = self._table.get(key)
        if record is not None:
            node = Node.recorded(key, record)
            other = self._by_ino.get(node.ino)
            if other is not None and other.fd is not None:
                raise error(errno.ESTALE)  # its number is in use by an inode that lives
            self._insert(node)
            return node
        # We made this key, and did not come to write it down before we were killed.
        node = Node(key, 0, None, None)
        self._insert(node)
        fd = self._search(node)
        st = os.fstat(fd)
        node.mode = st.st_mode
        node.version, node.birth_ns = identity(fd, st)
        self._hold(node, fd)
        self._record(key, node.record())
        return node

    def _fd(self, node: Node) -> int:
        """An O_PATH descriptor of the inode, valid until the next call. Raises ESTALE."""
        if node.fd is not None:
            if node is not self._root:
                self._held.move_to_end(node.key)
                if self._table is not None and node.key in self._nodes:
                    self._nodes.move_to_end(node.key)
            return node.fd
        try:
            self._climb(node)
        except OSError as failure:
            if failure.errno not in _NOT_THERE:
                raise
            if node.fd is None:
                self._hold(node, self._search(node))
        assert node.fd is not None
        return node.fd

    def _climb(self, node: Node) -> None:
        """Open the inode, and the directories above it as far as need be, where they were seen last."""
        path = [node]
        above = self._recorded_parent(node)
        while above.fd is None:
            path.append(above)
            if len(path) > MAX_DEPTH:
                raise error(errno.ESTALE)
            above = self._recorded_parent(above)
        for below in reversed(path):
            assert above.fd is not None
            self._hold(below, self._open_in(above, above.fd, below))
            above = below

    def _recorded_parent(self, node: Node) -> Node:
        if node.parent == node.key or node.parent in self._stale:
            raise error(errno.ESTALE)
        parent = self._nodes.get(node.parent)
        if parent is None:
            if node.parent == self._root.key:
                return self._root
            record = None if self._table is None else self._table.get(node.parent)
            if record is None:
                raise error(errno.ESTALE)
            parent = Node.recorded(node.parent, record)
            self._insert(parent)
        return parent

    def _open_in(self, directory: Node, directory_fd: int, node: Node) -> int:
        """Open an inode under its recorded name, else under any name in the directory. Raises ENOENT, ESTALE."""
        try:
            return self._open_same(node, directory_fd, node.name)
        except OSError as failure:
            if failure.errno not in _NOT_THERE:
                raise
        for name, ino, _ in names_in(directory_fd):
            if ino == node.ino:
                fd = self._open_same(node, directory_fd, name)
                self._place(node, directory, name)
                return fd
        raise error(errno.ESTALE)

    def _search(self, node: Node) -> int:
        """Look for an inode in the whole export, breadth first. Raises ESTALE, and then it is stale for good.

        Only for an inode that has left its recorded directory while nothing held it: another program moved it, or the
        server was killed before it could write down where it is.
        """
        try:
            if self._table is not None:
                return self._find(node)
        except OSError as failure:
            if failure.errno not in _NOT_THERE:
                raise
        self._forget(node)
        raise error(errno.ESTALE)

    def _find(self, node: Node) -> int:
        waiting = deque([self._root])
        seen = 0
        while waiting:
            directory = waiting.popleft()
            try:
                if directory.fd is None:
                    self._climb(directory)
                assert directory.fd is not None
                names = list(names_in(directory.fd))
            except OSError:
                continue  # it went while we looked elsewhere, or is not ours to read
            seen += len(names)
            for name, ino, _ in names:
                if ino == node.ino:
                    assert directory.fd is not None
                    fd = self._open_same(node, directory.fd, name)
                    self._place(node, directory, name)
                    return fd
            if seen > MAX_SEARCHED:
                break
            for name, _, is_directory in names:
                if is_directory:
                    with suppress(OSError):
                        waiting.append(self._look(directory, name))
        raise error(errno.ESTALE)

    def _open_same(self, node: Node, directory_fd: int, name: bytes) -> int:
        """Open ``name`` if it still is that inode; raises ESTALE if not, or ENOENT."""
        if not name:
            raise error(errno.ENOENT)
        fd = look(name, directory_fd)
        st = os.fstat(fd)
        if (st.st_dev, st.st_ino) == (self._dev, node.ino) and node.is_same(*identity(fd, st)):
            return fd
        os.close(fd)
        raise error(errno.ESTALE)

    def _fstat(self, node: Node) -> os.stat_result:
        st = os.fstat(self._fd(node))
        if st.st_nlink == 0 and not node.holds:
            self._forget(node)
            raise error(errno.ESTALE)
        return st

    def _directory(self, key: Key) -> Node:
        node = self._node(key)
        if not stat_bits.S_ISDIR(node.mode):
            raise error(errno.ENOTDIR)
        return node

    def _look(self, parent: Node, name: bytes) -> Node:
        return self._adopt(look(name, self._fd(parent)), parent, name)

    def describe(self, key: Key) -> str:
        names: list[bytes] = []
        node = self._nodes.get(key)
        while node is not None and len(names) < MAX_DEPTH:
            names.append(node.name)
            if node.parent == self._root.key:
                break
            node = self._nodes.get(node.parent)
        if not names:
            return "." if key == self._root.key else self._stale.get(key) or "(stale)"
        return readable(b"/".join(reversed(names)))


def _descriptor_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft
