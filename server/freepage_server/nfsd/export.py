"""An export: a name, the storage behind it, and who is taken for whom."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import unquote

from freepage_proto.message import Remembered
from freepage_proto.rpc import AuthSys
from freepage_server.nfsd.handles import export_id
from freepage_server.nfsd.storage import Storage

Squash = Literal["none", "root", "all"]
WccOnWrite = Literal["none", "full"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

NOBODY = 65534
INVALID_ID = 0xFFFFFFFF
"""(uid_t)-1, which names nobody."""

MAX_PAYLOAD = 1 << 20
"""Largest READ, WRITE or READDIR in bytes (knfsd's max_block_size in the recordings)."""

MAX_CALLERS = 4096
"""Credentials of which is remembered whom an export takes them for."""

LOCAL_PEER = "local"
"""A caller in the server's own process."""


def peer_address(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in a gRPC peer, such as ``ipv4:10.0.0.7:3042`` or ``ipv6:%5B::1%5D:3042``; None when it has none."""
    family, _, rest = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return None
    host = unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@dataclass(slots=True)
class Export:
    """``name`` begins with a slash. ``squash`` maps root (or everybody) to ``anonuid``/``anongid``, as exports(5) says.

    ``sync``: a reply waits until what it says is on stable storage, as with knfsd's ``sync`` exports; otherwise it
    waits until it is in the kernel. ``clients`` are the only ones who may use it; none: everybody. ``max_read`` and
    ``max_write`` bound READ and WRITE in bytes. ``wcc_on_write``: whether replies to WRITE and COMMIT say what the
    attributes were before; knfsd's say nothing.
    """

    name: str
    storage: Storage
    read_only: bool = False
    squash: Squash = "none"
    anonuid: int = NOBODY
    anongid: int = NOBODY
    sync: bool = True
    clients: tuple[Network, ...] = ()
    max_read: int = MAX_PAYLOAD
    max_write: int = MAX_PAYLOAD
    wcc_on_write: WccOnWrite = "none"
    id: int = field(init=False)
    squashed: Callable[[AuthSys], AuthSys] = field(init=False)
    """the credential that a caller has on this export"""

    def __post_init__(self) -> None:
        self.squashed = Remembered(self._squash, MAX_CALLERS)
        if not self.name.startswith("/") or (len(self.name) > 1 and self.name.endswith("/")):
            raise ValueError(f"an export's name begins with a slash and does not end in one: {self.name!r}")
        self.id = export_id(self.name)
        self.storage.fsid = self.id

    def admits(self, peer: str) -> bool:
        """Whether a caller from there may use the export."""
        if not self.clients or peer == LOCAL_PEER:
            return True
        address = peer_address(peer)
        return address is not None and any(address in network for network in self.clients)

    def _squash(self, cred: AuthSys) -> AuthSys:
        """What ``squashed`` remembers.

        INVALID_ID is nobody's, and squashed on every export (knfsd: nfsd_setuser): to chown(2) it means "leave it as it
        is", and what is new is still root's.
        """
        if INVALID_ID in (cred.uid, cred.gid, *cred.gids):
            cred = AuthSys(
                self.anonuid if cred.uid == INVALID_ID else cred.uid,
                self.anongid if cred.gid == INVALID_ID else cred.gid,
                tuple(self.anongid if gid == INVALID_ID else gid for gid in cred.gids),
                cred.machine_name,
            )
        if self.squash == "none":
            return cred
        if self.squash == "all":
            return AuthSys(self.anonuid, self.anongid, (), cred.machine_name)
        if cred.uid != 0 and cred.gid != 0 and 0 not in cred.gids:
            return cred
        return AuthSys(
            self.anonuid if cred.uid == 0 else cred.uid,
            self.anongid if cred.gid == 0 else cred.gid,
            tuple(self.anongid if gid == 0 else gid for gid in cred.gids),
            cred.machine_name,
        )
