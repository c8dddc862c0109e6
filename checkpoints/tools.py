"""Other quantizers, where they are installed: NVIDIA's ModelOpt and vLLM's llm-compressor.

Both want torch, and a GPU for anything but a small model; neither is in the locks of this project.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from checkpoints.failures import CheckpointProblem
from checkpoints.samples import Sample

_INSTALL = {
    "modelopt": "pip install 'nvidia-modelopt[hf]' torch transformers",
    "llmcompressor": "pip install llmcompressor torch transformers",
}


def require(module: str) -> None:
    """Raises CheckpointProblem, which says what to install."""
    missing = [name for name in (module, "torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise CheckpointProblem(
            f"{', '.join(missing)} not installed here; run {_INSTALL[module]}, or use --with builtin"
        )


def quantize_with_modelopt(
    source: Path,
    out: Path,
    form: str,
    samples: Sequence[Sample],
    *,
    most_tokens: int,
    advance: Callable[[int], None],
) -> None:
    """PTQ with ModelOpt's default recipe of the format: `mtq.quantize`, then `export_hf_checkpoint`.

    Raises:
        CheckpointProblem: it is not installed, or a sample cannot be used.
    """
    require("modelopt")
    torch, model, tokenizer = _model(source)
    mtq = importlib.import_module("modelopt.torch.quantization")
    export: Any = importlib.import_module("modelopt.torch.export")
    recipe = mtq.NVFP4_DEFAULT_CFG if form == "nvfp4" else mtq.FP8_DEFAULT_CFG

    def forward(quantized: Any) -> None:
        for sample in samples:
            with torch.inference_mode():
                quantized(_ids(tokenizer, sample, most_tokens).to(quantized.device))
            advance(1)

    model = mtq.quantize(model, recipe, forward_loop=forward)
    export.export_hf_checkpoint(model, export_dir=str(out))
    tokenizer.save_pretrained(str(out))


def quantize_with_llm_compressor(
    source: Path,
    out: Path,
    form: str,
    samples: Sequence[Sample],
    *,
    most_tokens: int,
    advance: Callable[[int], None],
) -> None:
    """One-shot PTQ with llm-compressor: its schemes NVFP4 and FP8, written as compressed-tensors.

    Raises:
        CheckpointProblem: it is not installed, or a sample cannot be used.
    """
    require("llmcompressor")
    _, model, tokenizer = _model(source)
    datasets = importlib.import_module("datasets")
    modifiers = importlib.import_module("llmcompressor.modifiers.quantization")
    texts = [_rendered(tokenizer, sample) for sample in samples]

    def encoded(row: dict[str, str]) -> Any:
        return tokenizer(row["text"], max_length=most_tokens, truncation=True, add_special_tokens=False)

    data = datasets.Dataset.from_dict({"text": texts}).map(encoded, remove_columns=["text"])
    recipe = modifiers.QuantizationModifier(targets="Linear", scheme=form.upper(), ignore=["lm_head"])
    importlib.import_module("llmcompressor").oneshot(
        model=model,
        dataset=data,
        recipe=recipe,
        max_seq_length=most_tokens,
        num_calibration_samples=len(samples),
    )
    advance(len(samples))
    model.save_pretrained(str(out), save_compressed=True)
    tokenizer.save_pretrained(str(out))


def _model(source: Path) -> tuple[Any, Any, Any]:
    if not source.is_dir():
        raise CheckpointProblem(f"{source}: this tool wants a folder; make one of a GGUF with: quantize --to bf16")
    # What is quantized here lies on this disk: nothing is asked of a hub.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch = importlib.import_module("torch")
    transformers = importlib.import_module("transformers")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = transformers.AutoModelForCausalLM.from_pretrained(str(source), torch_dtype=torch.bfloat16).to(device)
    return torch, model, transformers.AutoTokenizer.from_pretrained(str(source))


def _rendered(tokenizer: Any, sample: Sample) -> str:
    turns = [{"role": turn.role, "content": turn.content} for turn in sample.messages]
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # templates raise what they like
        raise CheckpointProblem(
            f"sample of line {sample.line}: the model's chat template refuses it: {error}"
        ) from error


def _ids(tokenizer: Any, sample: Sample, most: int) -> Any:
    text = _rendered(tokenizer, sample)
    return tokenizer(text, max_length=most, truncation=True, add_special_tokens=False, return_tensors="pt").input_ids
