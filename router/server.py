"""The router process's parts, wired: broker, relay, pools, admission, service, gRPC server, health, reflection."""

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server  # pyright: ignore[reportUnknownVariableType]
from grpc_reflection.v1alpha import reflection

from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from broker.client import Broker
from broker.types import BrokerUnavailable
from classifier.model import load as load_classifier
from router.admin.rooms import admin_rooms
from router.admission import Admission
from router.config import Config
from router.directory.directory import Directory
from router.directory.seeding import Seeding
from router.documents import DocumentWatch
from router.gate_desk import GateDesk
from router.gates import GATE, GateBook
from router.identity.api_keys import ApiKeys
from router.identity.authentication import Authentication
from router.identity.certificates import Certificates
from router.identity.key_ring import key_ring
from router.identity.tokens import Issuer, Tokens
from router.observation import observe
from router.policies import POLICY, SHADOW, PolicyBook, ShadowBook
from router.policy_service import PolicyService
from router.pools import PoolWatch
from router.relay import Relay
from router.rpc import service_handler
from router.rulebook import Rulebook
from router.service import InferenceService
from router.settings import RouterSettings
from router.shadow import Shadows
from router.tls import TlsFault, server_credentials
from telemetry.calls import RouterTelemetry
from telemetry.log_settings import LogSettings, follow_log_settings

_log = structlog.get_logger("bitlane.router")
_SERVICES = (
    pb.DESCRIPTOR.services_by_name["InferenceService"],
    ppb.DESCRIPTOR.services_by_name["PolicyService"],
    apb.DESCRIPTOR.services_by_name["AdminService"],
)
_OPTIONS: list[tuple[str, int]] = [
    # The largest valid request is 1 MiB of text and 64 KiB of schema.
    ("grpc.max_receive_message_length", 2 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    # A half-open connection is found within 20 s.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # For pings that are not the keepalive's own; a minute by default.
    ("grpc.http2.ping_timeout_ms", 5_000),
    # A stream that waits for its turn sends no data, and after two pings without any gRPC would ping once a minute.
    ("grpc.http2.max_pings_without_data", 0),
    # Clients may ping as often as the SDK does.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # The largest token that is read is 8 KiB.
    ("grpc.max_metadata_size", 12 << 10),
    ("grpc.absolute_max_metadata_size", 16 << 10),
]


@asynccontextmanager
async def serve(settings: RouterSettings, config: Config, name: str, telemetry: RouterTelemetry) -> AsyncGenerator[int]:
    """Runs a router; yields the port it listens on. Leaving drains it.

    Args:
        name: unique among the routers.

    Raises:
        OSError: the address cannot be listened on.
    """
    broker_options = settings.broker_options()
    async with Broker(broker_options, on_round_trip=telemetry.round_trip) as broker, broker.inbox(name) as inbox:
        pools = PoolWatch(broker, config)
        relay = Relay(broker, name, settings.stream_buffer_bytes)
        directory = Directory(config.operators, config.default_limits)
        rulebook = Rulebook(PolicyBook(), GateBook(config), pools)
        shadow_book = ShadowBook()
        documents = DocumentWatch(
            broker.documents,
            {POLICY: rulebook.policies, SHADOW: shadow_book, GATE: rulebook.gates, **directory.followers},
            Seeding(directory, broker.documents, config.tenants),
        )
        shadows = Shadows(shadow_book, broker.documents)
        classify = load_classifier()
        admission = Admission(config, directory, rulebook, shadows, classify, name, settings.max_request_s)
        service = InferenceService(broker, admission, relay, pools, config.pool_prices, settings.merge_ms)
        observe(telemetry, config, relay, rulebook)
        # Else two routers on one port would share its clients unseen; the second shall say that the address is taken.
        shared = ("grpc.so_reuseport", int(settings.processes > 1))
        server = grpc.aio.server(options=[*_OPTIONS, shared])
        gates = GateDesk(config, rulebook, broker.documents, documents)
        policies = PolicyService(config, directory, rulebook, broker.documents, documents, shadows, gates, classify)

        issuers = [Issuer(issuer, key_ring(issuer)) for issuer in config.identity.jwt]
        tokens, certificates = Tokens(directory, issuers), Certificates(directory, config.identity.certificates)
        identify = Authentication(directory, [ApiKeys(directory), tokens, certificates])
        rooms: tuple[list[object], ...] = ([service], [policies], admin_rooms(config, directory, broker, documents))
        server.add_generic_rpc_handlers(
            [service_handler(each, room, identify, telemetry) for each, room in zip(_SERVICES, rooms, strict=True)]
        )
        healthiness = HealthServicer()
        add_HealthServicer_to_server(healthiness, server)
        if settings.reflection:
            names = (*(s.full_name for s in _SERVICES), health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
            reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
        port = _listen(server, settings)
        await asyncio.gather(*(issuer.ring.refresh() for issuer in issuers))
        try:
            await asyncio.gather(pools.refresh(), documents.refresh())
        except BrokerUnavailable as error:
            _log.warning("broker.away", error=str(error), hint="requests fail with UNAVAILABLE until it is back")
        background = [
            _keep_running("relay", relay.run(inbox)),
            _keep_running("pools", pools.run()),
            _keep_running("documents", documents.run()),
            _keep_running("shadows", shadows.run()),
            _keep_running("event loop", telemetry.watch_event_loop()),
            *(_keep_running(f"keys of {issuer.config.name}", issuer.ring.run()) for issuer in issuers),
        ]
        if settings.log_settings_file is not None:
            following = follow_log_settings(settings.log_settings_file, LogSettings(settings.log_level))
            background.append(_keep_running("log settings", following))
        await server.start()
        await _set_health(healthiness, health_pb2.HealthCheckResponse.SERVING)
        _log.info("router.ready", router=name, port=port)
        try:
            yield port
        finally:
            _log.info("router.draining", streams=len(relay.readers))
            await _set_health(healthiness, health_pb2.HealthCheckResponse.NOT_SERVING)
            await _drain(server, service, settings.drain_s)
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            _log.info("router.stopped")


def _listen(server: grpc.aio.Server, settings: RouterSettings) -> int:
    """The port. Raises OSError."""
    try:
        if settings.tls_files is None:
            return server.add_insecure_port(settings.listen)
        return server.add_secure_port(settings.listen, server_credentials(settings.tls_files))
    except TlsFault as fault:  # it went bad since the settings were checked
        raise OSError(str(fault)) from fault
    except RuntimeError:
        raise OSError(f"cannot listen on {settings.listen}: the address is taken or not this machine's") from None


async def _drain(server: grpc.aio.Server, service: InferenceService, drain_s: float) -> None:
    """New calls are refused at once; streams may end by themselves for a while, and are then sent elsewhere."""
    stopped = asyncio.create_task(server.stop(drain_s + 2.0))
    await asyncio.wait([stopped], timeout=drain_s)
    service.drain()
    await stopped
    await service.close()


async def _set_health(
    healthiness: HealthServicer, status: health_pb2.HealthCheckResponse.ServingStatus.ValueType
) -> None:
    for name in (health.OVERALL_HEALTH, *(service.full_name for service in _SERVICES)):
        await healthiness.set(name, status)


def _keep_running(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A background task whose failure is a bug: it takes the process down rather than go unseen."""
    task = asyncio.create_task(work, name=name)

    def on_done(done: asyncio.Task[None]) -> None:
        if not done.cancelled():
            _log.critical("background.died", task=name, error=repr(done.exception()))
            os._exit(70)

    task.add_done_callback(on_done)
    return task
