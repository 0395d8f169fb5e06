"""The procedures of NLM."""

from __future__ import annotations

from typing import Any

from freepage_proto import nlm4
from freepage_proto.convert.common import handle
from freepage_proto.convert.method import method, null
from freepage_proto.nlm4 import MAX_OWNER, NlmStat4
from freepage_proto.rpc import Procedure, RpcGarbageArgs
from freepage_proto.v1 import nlm_pb2 as nlm_pb

_NLMSTAT = {int(value): value for value in NlmStat4}


def _put_lock(message: nlm_pb.NlmLock, lock: nlm4.NlmLock) -> None:
    message.SetInParent()
    message.file, message.owner, message.svid = lock.file, lock.owner, lock.svid
    message.offset, message.length = lock.offset, lock.length


def _lock(m: nlm_pb.NlmLock) -> nlm4.NlmLock:
    if len(m.owner) > MAX_OWNER:
        raise RpcGarbageArgs(f"a lock's owner of {len(m.owner)} bytes; the protocol has room for {MAX_OWNER}")
    return nlm4.NlmLock(handle(m.file), m.owner, m.svid, m.offset, m.length)


def _fill_lock(message: nlm_pb.LockRequest, args: nlm4.LockArgs) -> None:
    _put_lock(message.lock, args.lock)
    message.exclusive, message.block, message.reclaim = args.exclusive, args.block, args.reclaim


def _fill_test(message: nlm_pb.TestRequest, args: nlm4.LockArgs) -> None:
    _put_lock(message.lock, args.lock)
    message.exclusive = args.exclusive


def _fill_granted(message: nlm_pb.GrantedRequest, args: nlm4.GrantedArgs) -> None:
    message.wait_ms = args.wait_ms


def _fill_granted_res(m: nlm_pb.GrantedResponse, r: nlm4.GrantedRes) -> None:
    for lock in r.locks:
        _put_lock(m.locks.add(), lock)


def _fill_unlock(message: Any, args: nlm4.UnlockArgs) -> None:
    _put_lock(message.lock, args.lock)


def _fill_nlm_res(m: Any, r: nlm4.NlmRes) -> None:
    m.status = r.status.value


def _fill_test_res(m: nlm_pb.TestResponse, r: nlm4.NlmRes) -> None:
    m.status, m.holder_exclusive = r.status.value, r.holder_exclusive  # type: ignore[assignment]
    if r.holder is not None:
        _put_lock(m.holder, r.holder)


def _read_test_res(m: nlm_pb.TestResponse) -> nlm4.NlmRes:
    return nlm4.NlmRes(_NLMSTAT[m.status], _lock(m.holder) if m.HasField("holder") else None, m.holder_exclusive)


_P = Procedure

NLM = (
    null(_P.NLM_NULL, nlm_pb.NlmNullRequest, nlm_pb.NlmNullResponse),
    method(
        _P.NLM_TEST, "Test", nlm_pb.TestRequest, nlm_pb.TestResponse,
        _fill_test, lambda m: nlm4.LockArgs(_lock(m.lock), m.exclusive),
        _fill_test_res, _read_test_res,
    ),
    method(
        _P.NLM_LOCK, "Lock", nlm_pb.LockRequest, nlm_pb.LockResponse,
        _fill_lock, lambda m: nlm4.LockArgs(_lock(m.lock), m.exclusive, m.block, m.reclaim),
        _fill_nlm_res, lambda m: nlm4.NlmRes(_NLMSTAT[m.status]),
    ),
    method(
        _P.NLM_CANCEL, "Cancel", nlm_pb.CancelRequest, nlm_pb.CancelResponse,
        _fill_unlock, lambda m: nlm4.UnlockArgs(_lock(m.lock)),
        _fill_nlm_res, lambda m: nlm4.NlmRes(_NLMSTAT[m.status]),
    ),
    method(
        _P.NLM_UNLOCK, "Unlock", nlm_pb.UnlockRequest, nlm_pb.UnlockResponse,
        _fill_unlock, lambda m: nlm4.UnlockArgs(_lock(m.lock)),
        _fill_nlm_res, lambda m: nlm4.NlmRes(_NLMSTAT[m.status]),
    ),
    method(
        _P.NLM_GRANTED, "Granted", nlm_pb.GrantedRequest, nlm_pb.GrantedResponse,
        _fill_granted, lambda m: nlm4.GrantedArgs(m.wait_ms),
        _fill_granted_res, lambda m: nlm4.GrantedRes(tuple(_lock(lock) for lock in m.locks)),
    ),
)  # fmt: skip
