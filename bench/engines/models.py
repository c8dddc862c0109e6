"""Checkpoints to measure with: Llama 8B's sizes, and no weights, which engines then make up (`load_format: dummy`)."""

import json
from pathlib import Path

from checkpoints.files import description_of
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


def write_dummies(out: Path) -> list[Path]:
    """Folders `dummy-8b` (BF16, for engines that quantize while loading) and `dummy-8b-nvfp4`, of 2 MB each.

    The vocabulary is the embedded model's, so that text can be sent.
    """
    made: list[Path] = []
    for name, algorithm in (("dummy-8b", ""), ("dummy-8b-nvfp4", "NVFP4")):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        description_of(GgufSource(packaged_checkpoint())).write(folder, algorithm)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config | _SIZES, indent=1) + "\n", encoding="utf-8")
        made.append(folder)
    return made
