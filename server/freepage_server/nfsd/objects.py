"""The accounted objects of the server's page cache, named and counted as the client's are (DESIGN.md D5, D6).

Every page that was filled owns the request that brought it in, which holds the credential it was brought in with.
Linux's knfsd keeps nothing of the kind per page; it is the model's, so that the hook has something to release here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from freepage import Ledger, ObjectState, SlabObject, SlabRun
from freepage_proto.rpc import AuthSys


class FillRequest(SlabObject):
    """The page-lifetime object: born when the page is filled, released by freepage and by nothing else."""

    __slots__ = ()
    slab_name: ClassVar[str] = "nfs_page"
    use: ClassVar[str] = "fill"
    objsize: ClassVar[int] = 128


class RpcCred(SlabObject):
    """A caller's credential; one object for all pages that this caller brought in."""

    __slots__ = ("_forget", "auth")
    slab_name: ClassVar[str] = "rpc_cred"
    objsize: ClassVar[int] = 192

    def __init__(self, ledger: Ledger, auth: AuthSys, forget: Callable[[AuthSys], object]) -> None:
        super().__init__(ledger, ObjectState.IN_USE, "auth_sys")
        self.auth = auth
        self._forget = forget

    def on_free(self) -> None:
        self._forget(self.auth)

    def describe(self) -> str:
        return f"rpc_cred uid={self.auth.uid} gid={self.auth.gid} of {self.auth.machine_name}"


class CredTable:
    """The live credentials, each once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._creds: dict[AuthSys, RpcCred] = {}
        ledger.register(RpcCred.slab_name, RpcCred.objsize, (RpcCred.use,))
        ledger.register(FillRequest.slab_name, FillRequest.objsize, (FillRequest.use,))

    def new_fill_request(self, auth: AuthSys, site: str) -> FillRequest:
        """A request for one page, held by that page (CACHED)."""
        cred = self._creds.get(auth)
        if cred is not None:
            request = FillRequest(self._ledger, ObjectState.CACHED, site)
            request.hold(cred)
            return request
        cred = self._creds[auth] = RpcCred(self._ledger, auth, self._forget)
        request = FillRequest(self._ledger, ObjectState.CACHED, site)
        request.hold(cred)
        cred.put()
        return request

    def new_fill_requests(self, auth: AuthSys, site: str, n: int) -> SlabRun:
        """Requests for `n` pages that are read together (IN_USE)."""
        cred = self._creds.get(auth)
        if cred is not None:
            return SlabRun(self._ledger, FillRequest, n, cred, ObjectState.IN_USE, site)
        cred = self._creds[auth] = RpcCred(self._ledger, auth, self._forget)
        requests = SlabRun(self._ledger, FillRequest, n, cred, ObjectState.IN_USE, site)
        cred.put()
        return requests

    def _forget(self, auth: AuthSys) -> None:
        self._creds.pop(auth, None)
