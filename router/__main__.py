"""`python -m router`: a router process, until SIGTERM or SIGINT."""

import asyncio
import gc
import signal
import sys

import uvloop
from pydantic import ValidationError

from router.config import Config, ConfigError, load_config
from router.server import serve
from router.settings import RouterSettings
from telemetry.logging import set_up_logging


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
    try:
        uvloop.run(_run(settings, config))
    except OSError as error:
        print(f"python -m router: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(settings: RouterSettings, config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serve(settings, config):
        # What lives now lives to the end: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
