"""The procedures of MOUNT."""

from __future__ import annotations

from freepage_proto import mount3, nfs3
from freepage_proto.convert.common import fields, no_args, optional_handle
from freepage_proto.convert.method import method, null
from freepage_proto.mount3 import MountStat3
from freepage_proto.rpc import Procedure
from freepage_proto.v1 import mount_pb2 as mount_pb

_MOUNTSTAT = {int(value): value for value in MountStat3}


def _fill_mnt_res(m: mount_pb.MntResponse, r: mount3.MntRes) -> None:
    m.status = r.status.value  # type: ignore[assignment]
    if r.fhandle is not None:
        m.fhandle = r.fhandle
    m.auth_flavors.extend(r.auth_flavors)


def _fill_dump_res(m: mount_pb.DumpResponse, r: mount3.DumpRes) -> None:
    for entry in r.entries:
        m.entries.add(hostname=entry.hostname, directory=entry.directory)


def _fill_export_res(m: mount_pb.ExportResponse, r: mount3.ExportRes) -> None:
    for entry in r.entries:
        m.entries.add(directory=entry.directory, groups=entry.groups)


_P = Procedure

MOUNT = (
    null(_P.MOUNT_NULL, mount_pb.MountNullRequest, mount_pb.MountNullResponse),
    method(
        _P.MOUNT_MNT, "Mnt", mount_pb.MntRequest, mount_pb.MntResponse,
        fields("dirpath"), lambda m: mount3.MntArgs(m.dirpath),
        _fill_mnt_res,
        lambda m: mount3.MntRes(_MOUNTSTAT[m.status], optional_handle(m, "fhandle"), tuple(m.auth_flavors)),
    ),
    method(
        _P.MOUNT_DUMP, "Dump", mount_pb.DumpRequest, mount_pb.DumpResponse,
        no_args, lambda m: nfs3.NullArgs(),
        _fill_dump_res,
        lambda m: mount3.DumpRes(tuple(mount3.MountEntry(e.hostname, e.directory) for e in m.entries)),
    ),
    method(
        _P.MOUNT_UMNT, "Umnt", mount_pb.UmntRequest, mount_pb.UmntResponse,
        fields("dirpath"), lambda m: mount3.UmntArgs(m.dirpath),
        no_args, lambda m: nfs3.NullRes(),
    ),
    method(
        _P.MOUNT_EXPORT, "Export", mount_pb.ExportRequest, mount_pb.ExportResponse,
        no_args, lambda m: nfs3.NullArgs(),
        _fill_export_res,
        lambda m: mount3.ExportRes(tuple(mount3.ExportEntry(e.directory, tuple(e.groups)) for e in m.entries)),
    ),
)  # fmt: skip
