"""What the client's counters and flags say, beside what is there: the part of the audit that knows NFS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from freepage_client.nfs.pagelist import WriteRequest

if TYPE_CHECKING:
    from freepage_client.nfs.inode import NfsInode
    from freepage_client.nfs.super import NfsServer


def differences(superblocks: Iterable[NfsServer]) -> Iterator[str]:
    """A line for each counter or flag that disagrees with the write requests that exist. Does not wait."""
    for sb in superblocks:
        for inode in sb.inodes.values():
            yield from _check_inode(inode)
        expected = sum(len(inode.commit_list) + inode.commit_requests_out for inode in sb.inodes.values())
        if sb.nr_unstable != expected:
            yield f"{sb.source}: {sb.nr_unstable} pages count as uncommitted, {expected} wait for a COMMIT"


def _check_inode(inode: NfsInode) -> Iterator[str]:
    for index, request in inode.write_requests.items():
        if not request.attached:
            yield f"{inode.audit_name}: the inode still counts a write request of page {index} that is gone"
    for page in inode.mapping.resident_range():
        request = page.private
        if isinstance(request, WriteRequest) and not request.attached:
            yield f"{inode.audit_name}: page {page.index} is private, and its write request is gone"
