"""The embedded default engine: SmolLM2-135M-Instruct in NumPy, in real FP8 or NVFP4 numerics, on one CPU core."""

from workers.engines.reference.engine import ReferenceEngine

__all__ = ["ReferenceEngine"]
