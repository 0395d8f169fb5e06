"""What every ONC RPC call has, whatever its program: header, credential, procedure, transport errors.

Source: RFC 5531 (ONC RPC), RFC 1813 (NFSv3 and MOUNT v3), the NFSACL v3 side protocol, and NLM v4 (X/Open XNFS).
Nothing here knows gRPC or sockets: the client's and the server's logic speak these types, and only the ``io``
packages turn them into protobuf messages.
"""

from __future__ import annotations

from enum import Enum

from freepage_proto.message import message

AUTH_SYS_MAX_GIDS = 16
"""RFC 5531 appendix A: an AUTH_SYS credential carries at most 16 supplementary groups."""

AUTH_SYS_MAX_MACHINE_NAME = 255

MAX_CLIENT_ID = 255
"""Bytes of `CallHeader.client_id`: a host's name."""


class Program(Enum):
    """The RPC programs of one server, by ONC RPC program number."""

    NFS = 100003
    MOUNT = 100005
    NFSACL = 100227
    NLM = 100021


class Procedure(Enum):
    """Every procedure freepage sends, as (program, procedure number).

    The order within a program is the protocol's own; mountstats prints the NFS ones in this order.
    """

    NULL = (Program.NFS, 0)
    GETATTR = (Program.NFS, 1)
    SETATTR = (Program.NFS, 2)
    LOOKUP = (Program.NFS, 3)
    ACCESS = (Program.NFS, 4)
    READLINK = (Program.NFS, 5)
    READ = (Program.NFS, 6)
    WRITE = (Program.NFS, 7)
    CREATE = (Program.NFS, 8)
    MKDIR = (Program.NFS, 9)
    SYMLINK = (Program.NFS, 10)
    MKNOD = (Program.NFS, 11)
    REMOVE = (Program.NFS, 12)
    RMDIR = (Program.NFS, 13)
    RENAME = (Program.NFS, 14)
    LINK = (Program.NFS, 15)
    READDIR = (Program.NFS, 16)
    READDIRPLUS = (Program.NFS, 17)
    FSSTAT = (Program.NFS, 18)
    FSINFO = (Program.NFS, 19)
    PATHCONF = (Program.NFS, 20)
    COMMIT = (Program.NFS, 21)

    MOUNT_NULL = (Program.MOUNT, 0)
    MOUNT_MNT = (Program.MOUNT, 1)
    MOUNT_DUMP = (Program.MOUNT, 2)
    MOUNT_UMNT = (Program.MOUNT, 3)
    MOUNT_EXPORT = (Program.MOUNT, 5)

    NFSACL_NULL = (Program.NFSACL, 0)
    NFSACL_GETACL = (Program.NFSACL, 1)

    NLM_NULL = (Program.NLM, 0)
    NLM_TEST = (Program.NLM, 1)
    NLM_LOCK = (Program.NLM, 2)
    NLM_CANCEL = (Program.NLM, 3)
    NLM_UNLOCK = (Program.NLM, 4)
    NLM_GRANTED = (Program.NLM, 5)

    def __init__(self, program: Program, number: int) -> None:
        self.program: Program = program  # type: ignore[misc]  # mypy takes it for one more member
        self.number = number

    __hash__ = object.__hash__
    """A member is one object, and half a dozen tables are asked for it in each call: Enum's own hash is slow."""

    @property
    def display_name(self) -> str:
        """The name a trace shows: NFS procedures bare (``READ``), others with their program (``nfsacl.GETACL``)."""
        if self.program is Program.NFS:
            return self.name
        program, _, procedure = self.name.partition("_")
        return f"{program.lower()}.{procedure}"


NFS3_PROCEDURES: tuple[Procedure, ...] = tuple(p for p in Procedure if p.program is Program.NFS)
"""The 22 procedures of NFSv3, in protocol order."""


@message
class AuthSys:
    """An AUTH_SYS credential (RFC 5531 appendix A): who is asking.

    ``gids`` holds at most 16 supplementary groups; whoever has more cuts them, as Linux does.
    """

    uid: int = 0
    gid: int = 0
    gids: tuple[int, ...] = ()
    machine_name: str = "localhost"


@message
class CallHeader:
    """Who calls and which call this is.

    ``xid`` is repeated by a retransmission; (client_id, boot_instance, xid) names the call for the server's duplicate
    request cache. ``boot_instance`` changes when the client restarts, so that its locks can be released.
    """

    client_id: str
    boot_instance: int
    xid: int
    cred: AuthSys


class RpcError(Exception):
    """The call got no answer of the protocol's own; the message says what happened."""


class RpcTimedOut(RpcError):
    """No reply within the time given. The call may or may not have been executed."""


class RpcConnectionLost(RpcError):
    """The connection could not be made or broke. The call may or may not have been executed."""


class RpcGarbageArgs(RpcError):
    """The peer could not decode the message, or sent one that we cannot decode (RFC 5531 GARBAGE_ARGS)."""


class RpcAuthError(RpcError):
    """The server refused the caller's credential or address (RFC 5531 AUTH_ERROR)."""


class RpcProcedureUnavailable(RpcError):
    """The server does not speak this program or procedure (RFC 5531 PROG_UNAVAIL, PROC_UNAVAIL)."""


class RpcSystemError(RpcError):
    """The server failed inside, before it had an answer of the protocol's own (RFC 5531 SYSTEM_ERR)."""
