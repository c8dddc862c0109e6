"""The embedded default engine: SmolLM2-135M-Instruct in NumPy, in real FP8 or NVFP4 numerics, on one CPU core."""

import os

# One core a worker; and the same tokens from every worker of a machine, since BLAS adds in another order when it splits
# the work. OpenBLAS reads this once, when NumPy is first imported; who sets it decides.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from workers.engines.reference.engine import ReferenceEngine

__all__ = ["ReferenceEngine"]
