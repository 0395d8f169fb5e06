"""Plain types to protobuf messages and back: the one place where the two meet.

Both ``io`` packages use it: the client's transport encodes calls and decodes replies, the server's service does the
opposite. ``METHODS`` has, for each procedure, its gRPC method and the four functions. What cannot be a message of this
protocol (an unknown enumerator, a handle of more than 64 bytes, a count that is not its data's length) raises
RpcGarbageArgs, on whichever side finds it.
"""

from __future__ import annotations

from freepage_proto.convert.common import fattr, put_fattr
from freepage_proto.convert.header import cred, put_cred
from freepage_proto.convert.method import Method
from freepage_proto.convert.mount import MOUNT
from freepage_proto.convert.nfs import NFS
from freepage_proto.convert.nfsacl import NFSACL
from freepage_proto.convert.nlm import NLM
from freepage_proto.convert.readwrite import READ, WRITE, User, split_read
from freepage_proto.rpc import Procedure

__all__ = ["METHODS", "Method", "User", "cred", "fattr", "put_cred", "put_fattr", "split_read"]

_made = {method.procedure: method for method in (*NFS, READ, WRITE, *MOUNT, *NFSACL, *NLM)}

METHODS: dict[Procedure, Method] = {procedure: _made[procedure] for procedure in Procedure}
"""Every procedure's gRPC method, in the order of Procedure."""
