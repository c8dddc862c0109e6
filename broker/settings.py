"""The settings of the broker that routers and workers share, read in one way by both."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from broker.endpoint import parse_endpoint
from broker.options import BrokerOptions


class BrokerSettings(BaseSettings):
    """To be inherited by the settings of a process.

    All but the URL, the password and the TLS files must be the same for every process of a service.
    """

    model_config = SettingsConfigDict(hide_input_in_errors=True)  # it may hold the password

    broker_url: SecretStr = Field(
        default=SecretStr("redis://localhost:6379/0"),
        description="Redis or Valkey: redis://[user[:password]@]host:port/database, rediss:// with TLS, or unix://path",
    )
    broker_password_file: Path | None = Field(
        default=None, description="file with the password, which is then not in the URL; may change at run time"
    )
    broker_tls_ca_file: Path | None = Field(
        default=None, description="PEM authorities of the broker's certificate; default: the system's"
    )
    broker_tls_certificate_file: Path | None = Field(default=None, description="PEM certificate to show to the broker")
    broker_tls_key_file: Path | None = Field(
        default=None, description="PEM key of that certificate, without a password"
    )
    broker_shards: int = Field(default=1, ge=1, le=1024, description="shards of the broker; the same for every process")
    broker_timeout_s: float = Field(default=0.8, gt=0, le=30, description="a broker call fails after so long")
    # Whichever process ends a request sets how long it stays: most often the worker.
    resume_window_s: float = Field(
        default=60.0, ge=1, description="how long an ended request can be resumed; the same for every process"
    )

    def broker_options(self) -> BrokerOptions:
        return BrokerOptions(
            url=self.broker_url.get_secret_value(),
            password_file=_text(self.broker_password_file),
            tls_ca_file=_text(self.broker_tls_ca_file),
            tls_certificate_file=_text(self.broker_tls_certificate_file),
            tls_key_file=_text(self.broker_tls_key_file),
            shards=self.broker_shards,
            timeout_s=self.broker_timeout_s,
            resume_window_ms=round(self.resume_window_s * 1000),
        )

    @model_validator(mode="after")
    def _usable_login(self) -> Self:
        try:
            parse_endpoint(self.broker_options())
        except ValueError as error:
            raise ValueError(f"broker_{error}") from None
        return self


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
