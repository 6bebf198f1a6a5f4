"""A server of gRPC behind its limits, and a client that is told when to come back.

Each API key may call a service ten times a minute, and one of its methods twice. With REDIS_URL, servers share that.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from headgate.grpc import HEALTH, REFLECTION, RateLimitInterceptor
from headgate.rules import Rule

STORE = os.environ.get("REDIS_URL", "memory://")
KEY = (("x-api-key", os.urandom(8).hex()),)


def create(request: bytes, context: grpc.ServicerContext) -> bytes:
    return b"created " + request


def main() -> None:
    limits = RateLimitInterceptor(
        Rule("10/minute", name="orders", paths=["/shop.Orders/*"]),
        Rule("2/minute", name="create", paths=["/shop.Orders/Create"]),
        identity=["api_key", "ip"],
        exempt=[*HEALTH, *REFLECTION],
        store=STORE,
        name="grpc-example",
    )
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[limits])
    handlers: dict[str, Any] = {"Create": grpc.unary_unary_rpc_method_handler(create)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary("/shop.Orders/Create")
        for number in range(1, 4):
            try:
                print(call(str(number).encode(), metadata=KEY).decode())
            except grpc.RpcError as error:
                retry = RetryInfo()
                metadata: dict[str, Any] = {pair.key: pair.value for pair in error.trailing_metadata()}
                status = Status.FromString(metadata["grpc-status-details-bin"])
                assert any(detail.Unpack(retry) for detail in status.details)
                print(f"{error.code().name}: {error.details()}")
                print(f"the details say {retry.retry_delay.ToTimedelta().total_seconds():.0f} seconds")
                assert number == 3
    server.stop(grace=None).wait()
    limits.close()


if __name__ == "__main__":
    main()
