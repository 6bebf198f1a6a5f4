"""gRPC: rate limits as interceptors of servers; those of asyncio are in `headgate.grpc.aio`.

limits = RateLimitInterceptor("100/minute", Rule("5/minute", paths=["/shop.Orders/Create"]), exempt=[*HEALTH])
server = grpc.server(pool, interceptors=[limits])

This package must not know the messages of a service.
"""

from __future__ import annotations

try:
    import google.rpc.status_pb2  # noqa: F401 - the modules of this package may then import both as they are
    import grpc  # noqa: F401
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("grpcio or googleapis-common-protos", "grpc") from error

from headgate.grpc.blocking import RateLimitInterceptor
from headgate.grpc.calls import HEALTH, REFLECTION, GrpcCall

__all__ = ["HEALTH", "REFLECTION", "GrpcCall", "RateLimitInterceptor"]
