"""What a machine has of one server, whatever it mounts from it (struct nfs_client; fs/nfs/client.c nfs_get_client)."""

from __future__ import annotations

from freepage_client.nfs.iostat import XprtStats


class NfsClient:
    """``users`` are superblocks and mounts in the making: with the last it goes, and counting begins anew."""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.users = 0
        self.xprt = XprtStats()
        """Of the transport that all of them share."""
