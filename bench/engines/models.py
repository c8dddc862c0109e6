"""Checkpoints to measure with.

Llama 8B's sizes without weights, which engines then make up (`load_format: dummy`), for speed; and the embedded model
in sizes that GPU kernels take, for text.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from checkpoints.files import description_of
from checkpoints.packer import pack
from precision.formats.minifloat import Float32s
from workers.engines.reference.loading import packaged_checkpoint
from workers.engines.reference.sources import GgufSource

_SIZES = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
}
_HIDDEN, _HEADS, _KV_HEADS = 768, 12, 4


class WideSource(GgufSource):
    """SmolLM2-135M, filled up with zeros from 576 to 768 and from 9 and 3 heads to 12 and 4. It says the same.

    Kernels of NVFP4 on Hopper (Marlin) want multiples of 128. A mean of squares over more values, of which the new ones
    are zero, is smaller by the ratio of the sizes: the norms' gains and epsilon make that good.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._share = self.architecture.hidden / _HIDDEN
        epsilon = self.architecture.norm_epsilon * self._share
        self.architecture = replace(
            self.architecture, hidden=_HIDDEN, heads=_HEADS, kv_heads=_KV_HEADS, norm_epsilon=epsilon
        )

    def embedding(self) -> Float32s:
        return _filled(super().embedding(), columns=_HIDDEN)

    def norm(self, name: str, layer: int = 0) -> Float32s:
        gains = super().norm(name, layer) * np.float32(self._share**0.5)
        return np.pad(gains, (0, _HIDDEN - gains.size))

    def matrix(self, projection: str, layer: int) -> Float32s:
        matrix, size = super().matrix(projection, layer), self.architecture.head_size
        match projection:
            case "q":
                return _filled(matrix, rows=_HEADS * size, columns=_HIDDEN)
            case "k" | "v":
                return _filled(matrix, rows=_KV_HEADS * size, columns=_HIDDEN)
            case "out":
                return _filled(matrix, rows=_HIDDEN, columns=_HEADS * size)
            case "down":
                return _filled(matrix, rows=_HIDDEN)
            case _:
                return _filled(matrix, columns=_HIDDEN)


def _filled(matrix: Float32s, rows: int = 0, columns: int = 0) -> Float32s:
    more = (max(0, rows - matrix.shape[0]), max(0, columns - matrix.shape[1]))
    return np.pad(matrix, ((0, more[0]), (0, more[1])))


def write_models(out: Path) -> list[Path]:
    """Folders `dummy-8b` (BF16, for engines that quantize while loading) and `dummy-8b-nvfp4`, of 2 MB each, and the
    embedded model as `smollm2-768`, BF16, 370 MB. They share its vocabulary, so that text can be sent to all.
    """
    made: list[Path] = []
    for name, algorithm in (("dummy-8b", ""), ("dummy-8b-nvfp4", "NVFP4")):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        description_of(GgufSource(packaged_checkpoint())).write(folder, algorithm)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config | _SIZES, indent=1) + "\n", encoding="utf-8")
        made.append(folder)
    folder = out / "smollm2-768"
    folder.mkdir(exist_ok=True)
    source = WideSource(packaged_checkpoint())
    pack(source, source.digest(), folder, "bf16", None, description_of(source), advance=lambda: None)
    return [*made, folder]
