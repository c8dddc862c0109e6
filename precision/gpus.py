"""Which GPUs multiply in which formats, by compute capability, and which path a checkpoint takes on one."""

from dataclasses import dataclass

from precision.profile import ComputePath

Sm = tuple[int, int]
"""Compute capability: (10, 0) for "10.0"."""

NATIVE_FROM: dict[str, Sm] = {"NVFP4": (10, 0), "MXFP4": (10, 0), "FP8_E4M3": (8, 9), "BF16": (8, 0), "FP16": (7, 0)}
"""The least compute capability whose tensor cores take the format. What is not here, none takes."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or the slice of one that a worker may use. `mig` is the slice's profile, like "1g.24gb"; empty: whole."""

    name: str
    sm: Sm
    memory_bytes: int = 0
    mig: str = ""

    @property
    def capability(self) -> str:
        return f"{self.sm[0]}.{self.sm[1]}"

    @property
    def label(self) -> str:
        return f"{self.name} MIG {self.mig}" if self.mig else self.name


def parse_sm(text: str) -> Sm:
    """(10, 0) of "10.0"; (0, 0) of an empty text. Raises ValueError."""
    if not text:
        return (0, 0)
    major, _, minor = text.partition(".")
    return (int(major), int(minor or 0))


def multiplies(form: str, sm: Sm) -> bool:
    """Whether a GPU's tensor cores take a format."""
    needed = NATIVE_FROM.get(form)
    return needed is not None and sm >= needed


def compute_path(weights: str, activations: str, sm: Sm, *, widened: bool = False) -> ComputePath:
    """How weights and activations of these formats are multiplied on a GPU of this capability.

    Native only if the activations are in a format as narrow as the weights' and the tensor cores take it: a W4A16
    checkpoint is weight-only on every GPU, and NVFP4 is weight-only on Hopper. `widened`: the engine was told to widen
    the weights all the same.
    """
    if widened or activations != weights or not multiplies(weights, sm):
        return ComputePath.WEIGHT_ONLY
    return ComputePath.NATIVE
