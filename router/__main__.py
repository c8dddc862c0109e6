"""`python -m router`: a router process, until SIGTERM or SIGINT."""

import asyncio
import gc
import os
import secrets
import signal
import socket
import sys

import uvloop
from pydantic import ValidationError

from router.config import Config, ConfigError, load_config
from router.server import serve
from router.settings import RouterSettings
from router.supervisor import Supervisor, held_port
from telemetry.calls import RouterTelemetry
from telemetry.logging import set_up_logging
from telemetry.setup import TelemetryConfigError, set_up_telemetry
from telemetry.tenants import TenantLabels


def main() -> int:
    try:
        settings = RouterSettings.from_command_line()
        config = load_config(settings.config)
        if config.identity.certificates and settings.tls_client_auth != "required":
            raise ConfigError(f"{settings.config}: identity.certificates: needs the setting tls_client_auth=required")
    except ValidationError as error:
        for e in error.errors():
            path, text = ".".join(map(str, e["loc"])) or "settings", e["msg"].removeprefix("Value error, ")
            print(f"python -m router: {path}: {text}", file=sys.stderr)
        return 2
    except ConfigError as error:
        print(f"python -m router: {error}", file=sys.stderr)
        return 2
    set_up_logging("router", level=settings.log_level, log_format=settings.log_format)
    if settings.processes == 1:
        return _run_one(settings, config)

    def child(number: int, parent: int) -> int:
        # Each process serves its own metrics, side by side.
        if (first := os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT", "")).isdecimal() and int(first):
            os.environ["OTEL_EXPORTER_PROMETHEUS_PORT"] = str(int(first) + number)
        name = f"{settings.name}-{number}-{secrets.token_hex(3)}" if settings.name else ""
        return _run_one(settings.model_copy(update={"listen": listen, "name": name}), config, parent)

    try:
        with held_port(settings.listen) as listen:
            return Supervisor(settings.processes, child).run()
    except OSError as error:
        print(f"python -m router: {error}", file=sys.stderr)
        return 1


def _run_one(settings: RouterSettings, config: Config, parent: int | None = None) -> int:
    """One router. `parent`: a file descriptor that is at its end when the supervisor is gone."""
    name = settings.name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    try:
        telemetry = set_up_telemetry("router", name)
    except TelemetryConfigError as error:
        print(f"python -m router: {error}", file=sys.stderr)
        return 2
    try:
        labels = TenantLabels(config.telemetry.tenants)
        uvloop.run(_run(settings, config, name, RouterTelemetry(telemetry, labels), parent))
    except OSError as error:
        print(f"python -m router: {error}", file=sys.stderr)
        return 1
    finally:
        telemetry.close()
    return 0


async def _run(
    settings: RouterSettings, config: Config, name: str, telemetry: RouterTelemetry, parent: int | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if parent is not None:
        loop.add_reader(parent, stop.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serve(settings, config, name, telemetry):
        # What lives now lives to the end: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
