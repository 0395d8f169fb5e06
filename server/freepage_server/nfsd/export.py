"""An export: a name, the storage behind it, and who is taken for whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from freepage_proto.rpc import AuthSys
from freepage_server.nfsd.handles import export_id
from freepage_server.nfsd.storage import Storage

Squash = Literal["none", "root", "all"]

NOBODY = 65534


@dataclass(slots=True)
class Export:
    """``name`` begins with a slash. ``squash`` maps root (or everybody) to ``anonuid``/``anongid``, as exports(5) says.

    ``sync``: a reply about names waits until the directory is on stable storage, as knfsd's ``sync`` exports do.
    """

    name: str
    storage: Storage
    read_only: bool = False
    squash: Squash = "none"
    anonuid: int = NOBODY
    anongid: int = NOBODY
    sync: bool = True
    id: int = field(init=False)

    def __post_init__(self) -> None:
        if not self.name.startswith("/") or (len(self.name) > 1 and self.name.endswith("/")):
            raise ValueError(f"an export's name begins with a slash and does not end in one: {self.name!r}")
        self.id = export_id(self.name)
        self.storage.fsid = self.id

    def squashed(self, cred: AuthSys) -> AuthSys:
        """The credential that the caller has on this export."""
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
