"""What a precision is, and what a worker proves about the one it computes in."""

from dataclasses import dataclass
from enum import Enum, IntEnum


class Precision(IntEnum):
    """The number format that a pool computes in; ordered by how exact it is. Values equal `bitlane.v1.Precision`."""

    FP4 = 1
    FP8 = 2
    BF16 = 3


class ComputePath(Enum):
    """How a worker multiplies."""

    NATIVE = "native"  # the GPU multiplies in this precision
    WEIGHT_ONLY = "weight_only"  # weights are stored in it and widened before they are multiplied
    EMULATED = "emulated"  # values are rounded exactly as in it, and multiplied in a wider one


@dataclass(frozen=True, slots=True)
class Profile:
    """What a worker proved about itself; part of every receipt.

    Formats are named as in `bitlane.v1.Profile`: NVFP4, MXFP4, FP8_E4M3, BF16, FP32.
    """

    precision: Precision
    weight_format: str
    activation_format: str
    kv_cache_format: str
    group_size: int  # values that share one scale; 0: one scale a tensor or a row
    compute_path: ComputePath
    checkpoint_digest: str  # "sha256:<hex>" over the source checkpoint
    calibrated: bool  # whether calibration data was used to quantize
    engine: str
    engine_version: str
    gpu: str = ""  # name; empty on a CPU
    sm: str = ""  # compute capability such as "10.0"; empty on a CPU
