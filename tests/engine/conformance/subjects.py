"""The engines that the conformance suite runs on, and what each of them can."""

import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precision.profile import Precision
from workers.engine import Engine
from workers.engines.registry import make_engine
from workers.engines.scripted import ScriptedEngine, ScriptedOptions

FAKES = Path(__file__).parents[1] / "fakes"
SLOTS = 4


@dataclass(frozen=True)
class Subject:
    """An engine under test.

    `make` gives one that is not started; `crash` does to it what a crash does, without its knowing. `exact`: a greedy
    reply is the same whatever runs beside it, which batching on GPUs does not give. `seeded`: so is a sampled one.
    `moves_sampled`: a sampled reply that moves goes on with the same tokens. `names_tokens`: it tells ids.
    """

    name: str
    make: Callable[[], Engine]
    crash: Callable[[Engine], Awaitable[None]]
    chat: bool = True
    exact: bool = True
    seeded: bool = True
    moves_sampled: bool = True
    names_tokens: bool = True
    inside: Callable[[Engine], int] | None = None  # requests that it works on, seen from inside of a fake


def fakes_on_path() -> None:
    """Makes the fakes of vllm, sglang, tensorrt_llm and NVML what these names import."""
    if str(FAKES) not in sys.path:
        sys.path.insert(0, str(FAKES))


def scripted() -> Subject:
    async def crash(engine: Engine) -> None:
        assert isinstance(engine, ScriptedEngine)
        engine.crash()

    def make() -> Engine:
        return ScriptedEngine(ScriptedOptions(slots=SLOTS, token_ms=1, context_tokens=400))

    return Subject("scripted", make, crash)


def reference() -> Subject:
    from workers.engines.reference import ReferenceEngine  # noqa: PLC0415

    async def crash(engine: Engine) -> None:
        def failing(*_: object) -> None:
            raise MemoryError("no room")

        inside: Any = engine
        inside._steps._model.forward = failing

    return Subject("reference", lambda: ReferenceEngine("fp8", slots=SLOTS, context_tokens=400), crash)


def faked(name: str, checkpoint: Path, **options: object) -> Subject:
    """sglang, vllm or tensorrt_llm, on the fake of its API."""
    fakes_on_path()

    def make() -> Engine:
        chosen = {"model": str(checkpoint), "slots": SLOTS, "context_tokens": 400, **options}
        return make_engine(name, Precision.FP4, chosen)  # type: ignore[arg-type]

    def core(engine: Engine) -> Any:
        inside: Any = engine
        return (inside._driver._llm if name == "tensorrt_llm" else inside._driver._engine).core

    async def crash(engine: Engine) -> None:
        core(engine).kill()

    def inside(engine: Engine) -> int:
        return len(core(engine).running) + len(core(engine).waiting)

    return Subject(f"{name} (fake)", make, crash, moves_sampled=name == "sglang", inside=inside)


def real(name: str, options: Mapping[str, object], precision: Precision) -> Subject:
    """The engine itself, on a host that can run it. It crashes by the death of its process."""
    from bench.engines.stack import engine_process  # noqa: PLC0415

    async def crash(_: Engine) -> None:
        os.kill(engine_process(os.getpid()), signal.SIGKILL)

    def make() -> Engine:
        return make_engine(name, precision, {"slots": SLOTS, "context_tokens": 400, **options})  # type: ignore[arg-type]

    return Subject(name, make, crash, exact=False, seeded=False, moves_sampled=False)


def chosen_by_environment() -> Subject | None:
    """The engine that `make engine-test ENGINE=... MODEL=...` names; None: the suite's own ones."""
    name = os.environ.get("BITLANE_TEST_ENGINE")
    if not name:
        return None
    options: dict[str, object] = json.loads(os.environ.get("BITLANE_TEST_ENGINE_OPTIONS") or "{}")
    if model := os.environ.get("BITLANE_TEST_MODEL"):
        options["model"] = model
    return real(name, options, Precision[os.environ.get("BITLANE_TEST_PRECISION", "FP8").upper()])
