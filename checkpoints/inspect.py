"""What a checkpoint is in, and how each kind of GPU would compute it."""

from dataclasses import dataclass
from pathlib import Path

from checkpoints.failures import CheckpointProblem
from precision.gpus import Sm, compute_path
from precision.quantization import Quantization, UnknownQuantization
from workers.checkpoint import CheckpointUnreadable, digest_of, quantization_of

_GENERATIONS: tuple[tuple[str, Sm], ...] = (
    ("B200 (SM 10.0)", (10, 0)),
    ("B300 (SM 10.3)", (10, 3)),
    ("RTX 5090, RTX PRO 6000 (SM 12.0)", (12, 0)),
    ("H100, H200 (SM 9.0)", (9, 0)),
    ("RTX 4090 (SM 8.9)", (8, 9)),
    ("A100 (SM 8.0)", (8, 0)),
)


@dataclass(frozen=True, slots=True)
class Inspection:
    """A checkpoint as it says it is."""

    folder: Path
    quantization: Quantization
    digest: str


def inspect(folder: Path) -> Inspection:
    """Raises CheckpointProblem."""
    try:
        return Inspection(folder, quantization_of(folder), digest_of(folder))
    except (CheckpointUnreadable, UnknownQuantization) as error:
        raise CheckpointProblem(str(error)) from error


def as_text(found: Inspection) -> str:
    """Lines for people."""
    said = found.quantization
    lines = [
        f"checkpoint    {found.folder}",
        f"digest        {found.digest}",
        f"pool          <model>/{said.precision.name.lower()}",
        f"method        {said.method}{f' ({said.producer})' if said.producer else ''}",
        f"weights       {said.weight_format}",
        f"activations   {said.activation_format}",
        f"group size    {said.narrowest.group_size or 'a tensor or a row'}",
        f"key/value     {said.kv_cache}",
        f"calibrated    {'yes' if said.calibrated else 'no'}",
        f"not quantized {', '.join(said.ignored[:6])}{' ...' if len(said.ignored) > 6 else ''}" if said.ignored else "",
    ]
    if said.weight_only:
        lines.append(
            f"note          weight-only: the weights are {said.narrowest.weights}, but no GPU multiplies in it: "
            f"activations stay {said.narrowest.activations or said.wide}"
        )
    lines.append("")
    for name, sm in _GENERATIONS:
        layers = said.narrowest
        path = compute_path(layers.weights, layers.activations or said.wide, sm)
        lines.append(f"{name:34} {path.value}")
    return "\n".join(line for index, line in enumerate(lines) if line or index == len(lines) - len(_GENERATIONS) - 1)


def as_json(found: Inspection) -> dict[str, object]:
    said = found.quantization
    return {
        "checkpoint_digest": found.digest,
        "precision": said.precision.name,
        "method": said.method,
        "producer": said.producer,
        "weight_format": said.weight_format,
        "activation_format": said.activation_format,
        "kv_cache_format": said.kv_cache,
        "group_size": said.narrowest.group_size,
        "calibrated": said.calibrated,
        "weight_only": said.weight_only,
        "ignored": list(said.ignored),
        "compute_path": {
            f"{sm[0]}.{sm[1]}": compute_path(said.narrowest.weights, said.narrowest.activations or said.wide, sm).value
            for _, sm in _GENERATIONS
        },
    }
