"""The rules of the house hold, and the check that says so can fail."""

import subprocess
import sys

import pytest

from tools.check_tree import import_fault, tree_faults


def test_the_tree_keeps_the_rules() -> None:
    assert tree_faults() == []


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("bitlane", "broker.types.Lease"),
        ("bitlane", "structlog"),
        ("precision", "telemetry.logging"),
        ("broker", "bitlane.v1.inference_pb2"),
        ("broker", "google.protobuf"),
        ("router", "workers.engine.Engine"),
        ("router", "torch"),
        ("router", "tensorrt_llm"),
        ("router", "bitlane.client.AsyncClient"),
        ("workers", "router.faults"),
        ("classifier", "router.config"),
    ],
)
def test_forbidden_imports_are_found(package: str, module: str) -> None:
    assert import_fault(package, module) is not None


@pytest.mark.parametrize(
    ("package", "module"),
    [("bitlane", "grpc"), ("router", "bitlane.v1.inference_pb2"), ("broker", "hiredis"), ("workers", "numpy")],
)
def test_allowed_imports_are_let_through(package: str, module: str) -> None:
    assert import_fault(package, module) is None


def test_the_router_loads_no_engine() -> None:
    heavy = {"torch", "vllm", "sglang", "tensorrt_llm", "ml_dtypes", "tokenizers", "gguf", "workers"}
    code = f"import router.__main__, sys; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]"
