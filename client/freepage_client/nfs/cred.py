"""Credentials: one accounted object per distinct caller, shared by everything done in his name.

Linux keeps AUTH_SYS credentials in a per-auth cache (net/sunrpc/auth.c) keyed by uid, gid and groups; requests, open
contexts and calls hold references. Here one is freed when its last holder lets go, so that a credential that stays
behind means that something which holds it stayed behind.
"""

from __future__ import annotations

from collections.abc import Iterable

from freepage import Ledger, ObjectState, SlabObject
from freepage_proto.rpc import AuthSys


class Credential(SlabObject):
    """A reference-counted AUTH_SYS credential. ``auth`` is what goes on the wire."""

    slab_name = "rpc_cred"
    objsize = 192
    __slots__ = ("_cache", "auth")

    def __init__(self, ledger: Ledger, auth: AuthSys, cache: CredentialCache, site: str) -> None:
        super().__init__(ledger, ObjectState.IN_USE, site)
        self.auth = auth
        self._cache = cache

    def on_free(self) -> None:
        self._cache.forget(self)

    def describe(self) -> str:
        groups = ",".join(map(str, self.auth.gids))
        return f"uid={self.auth.uid} gid={self.auth.gid} groups={groups or '-'}"


class CredentialCache:
    """All live credentials of one client machine, by what they say."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._by_auth: dict[AuthSys, Credential] = {}

    def lookup(self, auth: AuthSys, site: str) -> Credential:
        """The credential for ``auth`` with one more IN_USE reference, which the caller must put."""
        credential = self._by_auth.get(auth)
        if credential is None:
            credential = Credential(self._ledger, auth, self, site)
            self._by_auth[auth] = credential
        else:
            credential.get(ObjectState.IN_USE)
        return credential

    def forget(self, credential: Credential) -> None:
        if self._by_auth.get(credential.auth) is credential:
            del self._by_auth[credential.auth]

    def live(self) -> Iterable[Credential]:
        return self._by_auth.values()
