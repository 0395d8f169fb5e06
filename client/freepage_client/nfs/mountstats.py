"""/proc/self/mountstats in the kernel's own format, statvers 1.1 (fs/nfs/super.c nfs_show_stats, net/sunrpc/stats.c).

Unmodified mountstats and nfsiostat read it, and so does node_exporter's parser, which insists on 27 events, 8 byte
counters and 13 numbers of TCP transport.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from freepage_client.nfs.iostat import BYTES
from freepage_proto.rpc import NFS3_PROCEDURES

if TYPE_CHECKING:
    from freepage_client.nfs.mount import Mount

CAPS_READDIRPLUS, CAPS_HARDLINKS, CAPS_SYMLINKS, CAPS_ACLS = 1, 2, 4, 8


def render_mountstats(mounts: Iterable[Mount], now_s: float) -> str:
    """One block a mount, with the counts of its superblock. ``now_s`` is the clock's time, for the mounts' ages."""
    return "".join(_block(mount, now_s) for mount in mounts)


def mount_options(mount: Mount) -> str:
    """The effective options as /proc/mounts shows them, defaults included (nfs_show_mount_options)."""
    superblock = mount.superblock
    options = superblock.options
    words = ["ro" if options.read_only else "rw"]
    words += ["sync"] if options.sync else []
    words += ["noatime"] if mount.options.noatime else []
    words += ["nodiratime"] if mount.options.nodiratime else []
    words += ["vers=3", f"rsize={superblock.rsize}", f"wsize={superblock.wsize}", f"namlen={superblock.namelen}"]
    words += [f"{name}={getattr(superblock, name) // 250}" for name in ("acregmin", "acregmax", "acdirmin", "acdirmax")]
    words += ["softerr"] if options.softerr else ["soft"] if options.soft else ["hard"]
    words += ["softreval"] if options.softreval else []
    words += [] if options.cto else ["nocto"]
    words += ["noac"] if options.noac else []
    words += ["nolock"] if options.nolock else []
    words += [] if options.acl else ["noacl"]
    words += [] if options.rdirplus else ["nordirplus"]
    words += [] if options.sharecache else ["nosharecache"]
    words += ["proto=tcp", f"timeo={options.timeo_ds}", f"retrans={options.retrans}", "sec=sys"]
    words += [f"mountaddr={mount.server}", "mountvers=3", "mountproto=tcp"]
    if options.lookupcache != "all":
        words.append(f"lookupcache={options.lookupcache}")
    local = {(True, True): "all", (True, False): "flock", (False, True): "posix"}
    words.append("local_lock=" + local.get((options.local_flock, options.local_fcntl), "none"))
    if options.write_policy != "lazy":
        words.append(f"write={options.write_policy}")
    return ",".join(words)


def _block(mount: Mount, now_s: float) -> str:
    superblock = mount.superblock
    stats, xprt = superblock.stats, superblock.stats.xprt
    caps = CAPS_HARDLINKS | CAPS_SYMLINKS
    caps |= (CAPS_READDIRPLUS if superblock.cap_readdirplus else 0) | (CAPS_ACLS if superblock.cap_acls else 0)
    age_s = int(now_s - stats.age_start_s)
    transport = (
        0,  # local port: the connection is gRPC's
        1,  # bind count
        1 + xprt.connects,
        0,  # connect time, s
        0,  # idle time, s
        xprt.sends,
        xprt.receives,
        xprt.bad_xids,
        xprt.in_flight_sum,
        0,  # backlog
        xprt.max_slots,
        0,  # sending queue
        xprt.in_flight_sum,
    )
    lines = [
        f"device {mount.source} mounted on {mount.mountpoint} with fstype nfs statvers=1.1",
        f"\topts:\t{mount_options(mount)}",
        f"\tage:\t{age_s}",
        f"\tcaps:\tcaps={caps:#x},wtmult={superblock.wtmult},dtsize={superblock.dtsize},bsize=0,namlen={superblock.namelen}",
        "\tsec:\tflavor=1,pseudoflavor=1",
        "\tevents:\t" + "".join(f"{count} " for count in stats.events.values()),
        "\tbytes:\t" + "".join(f"{getattr(stats.bytes, name)} " for name in BYTES),
        "\tRPC iostats version: 1.1  p/v: 100003/3 (nfs)",
        "\txprt:\ttcp " + " ".join(map(str, transport)),
        "\tper-op statistics",
    ]
    for procedure in NFS3_PROCEDURES:
        op = stats.ops[procedure]
        times = (round(op.queue_s * 1000), round(op.rtt_s * 1000), round(op.execute_s * 1000))
        numbers = (op.ops, op.transmissions, op.timeouts, op.bytes_sent, op.bytes_recv, *times, op.errors)
        lines.append(f"\t{procedure.name:>12}: " + " ".join(map(str, numbers)))
    return "\n".join(lines) + "\n\n"
