"""An emulated NFS client with a page cache, as a library.

For scripts and notebooks::

    import freepage_client

    with freepage_client.mount("127.0.0.1:2049:/export", "actimeo=60") as fs:
        fs.write("/hello", b"hello, world")
        with fs.counting() as rpcs:
            data = fs.read("/hello")            # from the page cache
        print(data, rpcs)                       # b'hello, world' {'GETATTR': 1, 'ACCESS': 1}
        print(fs.listdir("/"), fs.stat("/hello").st_size)
        print(fs.counters().mountstats)         # for mountstats(8) and nfsiostat(8)

For programs that are asynchronous themselves, ``Host`` has the same methods with ``await``, and any number of mounts.
Time-outs, revalidation, close-to-open, silly rename, locks: all is as the mount options say, call for call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freepage_client.library import BlockingFile, BlockingMount, Counters, File, Host, mount
    from freepage_client.nfs.options import BadMountOption
    from freepage_client.vfs.stat import Stat

__all__ = ["BadMountOption", "BlockingFile", "BlockingMount", "Counters", "File", "Host", "Stat", "mount"]

_ELSEWHERE = {"BadMountOption": "freepage_client.nfs.options", "Stat": "freepage_client.vfs.stat"}


def __getattr__(name: str) -> Any:
    """Imported when first asked for: the parts below need neither gRPC nor each other."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_ELSEWHERE.get(name, "freepage_client.library")), name)
