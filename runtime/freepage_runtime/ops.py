"""gRPC's health and reflection services, when their packages are there (`pip install freepage[ops]`)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import grpc.aio

from freepage_runtime.errors import UserError

log = logging.getLogger(__name__)


class SetServing(Protocol):
    async def __call__(self, serving: bool) -> None: ...


async def _nobody_asks(serving: bool) -> None:
    pass


def add(server: grpc.aio.Server, services: Sequence[str], wanted: bool | None) -> SetServing:
    """Put health and reflection for ``services`` (full names) on a server that has not started.

    ``wanted``: True demands them (UserError when the packages are missing), None takes them if they are there. Returns
    what tells the health service whether we serve; it says NOT_SERVING until then.
    """
    if wanted is False:
        return _nobody_asks
    try:
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
        from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]
    except ImportError as error:
        if wanted:
            raise UserError(
                f"gRPC health and reflection need packages that are missing ({error.name}): pip install 'freepage[ops]'"
            ) from error
        return _nobody_asks
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = (*services, "")  # the empty name is the server as a whole
    reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server)

    async def set_serving(serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in names:
            await servicer.set(name, status)

    return set_serving
