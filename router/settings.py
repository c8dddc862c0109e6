"""The router's settings: BITLANE_ROUTER_* in the environment, or the flags of `python -m router`."""

from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import CliApp, SettingsConfigDict

from broker.settings import BrokerSettings
from telemetry.logging import LogFormat


class RouterSettings(BrokerSettings):
    """Everything a router process needs to know. A bad value stops the start and names itself."""

    model_config = SettingsConfigDict(
        env_prefix="BITLANE_ROUTER_",
        extra="forbid",
        cli_prog_name="python -m router",
        cli_kebab_case=True,
        cli_hide_none_type=True,
    )

    config: Path = Field(default=Path("config/local.yaml"), description="tenants, models and pools")
    listen: str = Field(
        default="localhost:50051", pattern=r"^.+:\d{1,5}$", description="host:port; port 0 picks a free one"
    )
    allow_plaintext: bool = Field(
        default=False, description="listen without TLS beyond loopback (keys and prompts in the clear)"
    )
    name: str = Field(
        default="", pattern=r"^[A-Za-z0-9._-]{0,64}$", description="unique among the routers; default: made up"
    )
    max_request_s: float = Field(default=600.0, gt=0, description="deadline of a request whose client set none")
    merge_ms: float = Field(
        default=10.0, ge=0, le=1000, description="after the first delta, chunks of so long are merged"
    )
    stream_buffer_bytes: int = Field(
        default=256 << 10, ge=4096, description="for a slow reader; past it, its chunks come from the log"
    )
    drain_s: float = Field(
        default=10.0, ge=0, description="after SIGTERM, streams may finish so long; then clients resume elsewhere"
    )
    reflection: bool = Field(default=True, description="serve gRPC reflection")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: LogFormat = "auto"

    @classmethod
    def from_command_line(cls) -> "RouterSettings":
        """Flags first, then the environment. Raises pydantic.ValidationError; `--help` exits."""
        return CliApp.run(cls)

    @model_validator(mode="after")
    def _plaintext_on_loopback_only(self) -> "RouterSettings":
        host = self.listen.rpartition(":")[0].strip("[]")
        if not self.allow_plaintext and not _is_loopback(host):
            raise ValueError(
                f"listen: {host} is beyond loopback and there is no TLS; put a TLS proxy in front and listen on "
                "localhost, or set allow_plaintext=true if the network is trusted"
            )
        return self


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
