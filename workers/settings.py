"""A worker's settings: a YAML file, BITLANE_WORKER_* in the environment, or the flags of `python -m workers`."""

import argparse
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue
from pydantic_settings import BaseSettings, CliApp, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import YamlConfigSettingsSource as YamlFile

from broker.settings import BrokerSettings
from precision.profile import Precision
from telemetry.logging import LogFormat

_POOL = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}/(fp4|fp8|bf16)")


def _pool_name(text: str) -> str:
    if not _POOL.fullmatch(text):
        raise ValueError(f"want model/precision (fp4, fp8 or bf16) in small letters, such as smollm2/fp4, got {text!r}")
    return text


PoolName = Annotated[str, AfterValidator(_pool_name)]
EngineName = Literal["reference", "scripted", "sglang", "vllm", "tensorrt_llm", "openai_http"]


class WorkerSettings(BrokerSettings):
    """Everything a worker process needs to know. A bad value stops the start and names itself."""

    model_config = SettingsConfigDict(
        env_prefix="BITLANE_WORKER_",
        extra="forbid",
        cli_prog_name="python -m workers",
        cli_kebab_case=True,
        cli_hide_none_type=True,
    )

    config: Path | None = Field(
        default=None, description="YAML file with any of these settings, such as config/engines/vllm-fp8.yaml"
    )
    pool: PoolName = Field(description="model/precision, e.g. smollm2/fp4")
    engine: EngineName = Field(default="reference", description="what turns jobs into tokens")
    engine_options: dict[str, JsonValue] = Field(
        default_factory=dict, description='options of the engine as JSON, e.g. {"token_ms": 5}'
    )
    name: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description="unique among the workers; default: host, process and a random part",
    )
    lease_ms: int = Field(
        default=5000, ge=200, description="a request goes to another worker when its lease was not renewed so long"
    )
    flush_ms: float = Field(
        default=3.0,
        ge=0,
        le=1000,
        description="between two times that new tokens are logged, at least; longer the more requests run",
    )
    drain_s: float = Field(
        default=30.0, ge=0, description="after SIGTERM, running requests may finish so long; then they are handed back"
    )
    max_attempts: int = Field(default=3, ge=1, description="failed attempts before a request is dead-lettered")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: LogFormat = "auto"
    log_settings_file: Path | None = Field(
        default=None, description='JSON file that may say {"level": ..., "request_share": 0 to 1}; followed at run time'
    )

    @classmethod
    def from_command_line(cls) -> "WorkerSettings":
        """Flags first, then the environment, then the file. Raises pydantic.ValidationError; `--help` exits."""
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--config", default=os.environ.get("BITLANE_WORKER_CONFIG"))
        path = parser.parse_known_args()[0].config
        if path is None:
            return CliApp.run(cls)
        if not Path(path).is_file():
            raise SystemExit(f"python -m workers: config: there is no file {path}")
        return CliApp.run(type("WorkerSettings", (cls,), {"model_config": SettingsConfigDict(yaml_file=path)}))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, YamlFile(settings_cls)

    @property
    def precision(self) -> Precision:
        return Precision[self.pool.rpartition("/")[2].upper()]
