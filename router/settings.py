"""The router's settings: BITLANE_ROUTER_* in the environment, or the flags of `python -m router`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import CliApp, SettingsConfigDict

from broker.settings import BrokerSettings
from router.addresses import is_loopback
from router.tls import TlsFiles
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
        default="localhost:50051",
        pattern=r"^(unix:.+|.+:\d{1,5})$",
        description="host:port (port 0 picks a free one) or unix:path",
    )
    processes: int = Field(
        default=1, ge=1, le=256, description="routers behind this one port, a core for each; the kernel spreads clients"
    )
    tls_certificate_file: Path | None = Field(default=None, description="PEM chain of the server; renewed in place")
    tls_key_file: Path | None = Field(default=None, description="PEM key of the certificate, without a password")
    tls_client_ca_file: Path | None = Field(default=None, description="PEM authorities of the clients' certificates")
    tls_client_auth: Literal["none", "required"] = Field(
        default="none", description="whether clients must show a certificate of tls_client_ca_file"
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
    log_settings_file: Path | None = Field(
        default=None, description='JSON file that may say {"level": ..., "request_share": 0 to 1}; followed at run time'
    )

    @classmethod
    def from_command_line(cls) -> "RouterSettings":
        """Flags first, then the environment. Raises pydantic.ValidationError; `--help` exits."""
        return CliApp.run(cls)

    @property
    def tls_files(self) -> TlsFiles | None:
        """None: plaintext."""
        if self.tls_certificate_file is None or self.tls_key_file is None:
            return None
        return TlsFiles(self.tls_certificate_file, self.tls_key_file, self.tls_client_ca_file)

    @model_validator(mode="after")
    def _whole_tls(self) -> "RouterSettings":
        for one, other in (("tls_certificate_file", "tls_key_file"), ("tls_key_file", "tls_certificate_file")):
            if getattr(self, one) is None and getattr(self, other) is not None:
                raise ValueError(f"{one}: is needed together with {other}")
        if self.tls_client_ca_file is not None and self.tls_client_auth == "none":
            raise ValueError("tls_client_ca_file: is of no use with tls_client_auth=none; set it to required")
        if self.tls_client_auth == "required":
            if self.tls_client_ca_file is None:
                raise ValueError("tls_client_ca_file: is needed with tls_client_auth=required")
            if self.tls_certificate_file is None:
                raise ValueError("tls_certificate_file: is needed with tls_client_auth=required")
        if self.tls_files is not None:
            self.tls_files.read()
        return self

    @model_validator(mode="after")
    def _one_process_on_a_path(self) -> "RouterSettings":
        if self.processes > 1 and self.listen.startswith("unix:"):
            raise ValueError("processes: more than one can share a TCP port only; set listen to host:port")
        return self

    @model_validator(mode="after")
    def _plaintext_on_loopback_only(self) -> "RouterSettings":
        if self.tls_files is None and not self.allow_plaintext and not _stays_here(self.listen):
            raise ValueError(
                f"listen: {self.listen} is beyond loopback and there is no TLS; set tls_certificate_file and "
                "tls_key_file, or allow_plaintext=true if the network is trusted"
            )
        return self


def _stays_here(listen: str) -> bool:
    """Whether what is sent to this address never leaves the machine."""
    return listen.startswith("unix:") or is_loopback(listen.rpartition(":")[0])
