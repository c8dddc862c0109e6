"""`python -m deploy.probe router [HOST:PORT]` or `worker [PORT]`: exits 0 when that process of this container serves.

A router says so by gRPC's health protocol. A worker has no port to be called at: it serves when its engine is loaded
and it tells Prometheus of its slots (OTEL_METRICS_EXPORTER must name prometheus).
"""

import http.client
import sys

import grpc

_TIMEOUT_S = 4.0
_SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING}
_SLOTS = b"\nbitlane_slots{"


def main(arguments: list[str]) -> int:
    match arguments:
        case ["router", *address]:
            return 0 if router_serves(*address[:1]) else 1
        case ["worker", *port]:
            return 0 if worker_serves(*map(int, port[:1])) else 1
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def router_serves(address: str = "localhost:50051") -> bool:
    """Whether the router at a plaintext address takes calls: not before it is ready, nor once it drains."""
    with grpc.insecure_channel(address) as channel:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            return check(b"", timeout=_TIMEOUT_S) == _SERVING
        except grpc.RpcError:
            return False


def worker_serves(port: int = 9464) -> bool:
    """Whether the worker whose metrics are at this port has its engine ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        reply = connection.getresponse()
        return reply.status == http.client.OK and _SLOTS in reply.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
