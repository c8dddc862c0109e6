"""`python -m workers`: a worker process, until SIGTERM or SIGINT."""

import asyncio
import gc
import os
import secrets
import signal
import socket
import sys
from dataclasses import replace

import structlog
import uvloop
from pydantic import ValidationError

from broker.client import Broker
from telemetry.attempts import WorkerTelemetry
from telemetry.environment import TelemetrySettings
from telemetry.log_settings import LogSettings, follow_log_settings
from telemetry.logging import set_up_logging
from telemetry.setup import Telemetry, TelemetryConfigError, set_up_telemetry
from workers.attest import ProfileMismatchError, attest
from workers.convert import profile_attributes
from workers.engine import EngineDead
from workers.engines.driver import EngineMissing
from workers.engines.registry import EngineOptionsError, make_engine
from workers.settings import WorkerSettings
from workers.worker import Worker, WorkerOptions


def main() -> int:
    try:
        settings = WorkerSettings.from_command_line()
    except ValidationError as error:
        for e in error.errors():
            print(f"python -m workers: {'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}", file=sys.stderr)
        return 2
    set_up_logging("worker", level=settings.log_level, log_format=settings.log_format)
    try:
        TelemetrySettings.read(os.environ)  # a bad one is told before the model is loaded
        uvloop.run(_run(settings))
    except (EngineMissing, EngineOptionsError, ProfileMismatchError, TelemetryConfigError) as error:
        print(f"python -m workers: {error}", file=sys.stderr)
        return 2
    except EngineDead:
        return 1
    return 0


async def _run(settings: WorkerSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def take_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

    take_signals()
    log = structlog.get_logger("bitlane.worker")
    engine = make_engine(settings.engine, settings.precision, settings.engine_options)
    log.info("engine.loading", engine=settings.engine, pool=settings.pool)
    loading = asyncio.create_task(engine.start())
    stopped = asyncio.create_task(stop.wait())
    following = asyncio.create_task(_follow_log_settings(settings))
    telemetry: Telemetry | None = None
    await asyncio.wait([loading, stopped], return_when=asyncio.FIRST_COMPLETED)
    try:
        if not loading.done():
            loading.cancel()
            return
        await loading
        take_signals()  # an engine may have taken them for itself while it loaded
        attest(engine.profile, settings.pool, settings.precision)
        # What loading made stays: looking through a GPU engine's millions of objects again holds up every stream.
        gc.collect()
        gc.freeze()
        name = settings.name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        options = replace(settings.broker_options(), lease_ms=settings.lease_ms, max_attempts=settings.max_attempts)
        telemetry = set_up_telemetry("worker", name, profile_attributes(engine.profile, settings.pool))
        observer = WorkerTelemetry(telemetry, worker=name, pool=settings.pool, engine=engine.profile.engine)
        async with Broker(options, on_round_trip=observer.round_trip) as broker:
            worker = Worker(
                broker, engine, WorkerOptions(name, settings.pool, settings.flush_ms, settings.drain_s), observer
            )
            stopped.add_done_callback(lambda _: worker.stop())
            await worker.run()
    finally:
        stopped.cancel()
        following.cancel()
        await engine.close()
        if telemetry is not None:
            await asyncio.to_thread(telemetry.close)


async def _follow_log_settings(settings: WorkerSettings) -> None:
    if settings.log_settings_file is not None:
        await follow_log_settings(settings.log_settings_file, LogSettings(settings.log_level))


if __name__ == "__main__":
    sys.exit(main())
