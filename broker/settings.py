"""The settings of the broker that routers and workers share, read in one way by both."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from broker.options import BrokerOptions


class BrokerSettings(BaseSettings):
    """To be inherited by the settings of a process. All but the URL must be the same for every process of a service."""

    broker_url: SecretStr = Field(default=SecretStr("redis://localhost:6379/0"), description="Redis or Valkey")
    broker_shards: int = Field(default=1, ge=1, le=1024, description="shards of the broker; the same for every process")
    broker_timeout_s: float = Field(default=0.8, gt=0, le=30, description="a broker call fails after so long")
    # Whichever process ends a request sets how long it stays: most often the worker.
    resume_window_s: float = Field(
        default=60.0, ge=1, description="how long an ended request can be resumed; the same for every process"
    )

    def broker_options(self) -> BrokerOptions:
        return BrokerOptions(
            url=self.broker_url.get_secret_value(),
            shards=self.broker_shards,
            timeout_s=self.broker_timeout_s,
            resume_window_ms=round(self.resume_window_s * 1000),
        )
