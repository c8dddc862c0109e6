"""The chat template of SmolLM2-Instruct, as its checkpoint's `tokenizer.chat_template` has it (ChatML).

<|im_start|>system\\n...<|im_end|>\\n<|im_start|>user\\n...<|im_end|>\\n<|im_start|>assistant\\n
"""

from collections.abc import Sequence

from workers.engine import Message
from workers.engines.reference.tokenizer import Tokenizer

DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""Goes first when the conversation does not begin with a system turn; the model was trained with it."""


def chat_tokens(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Tokens of a conversation, up to where the assistant's next turn begins."""
    start, end = tokenizer.special("<|im_start|>"), tokenizer.special("<|im_end|>")
    newline = tokenizer.encode("\n")
    turns = list(messages)
    if not turns or turns[0].role != "system":
        turns.insert(0, Message("system", DEFAULT_SYSTEM))
    tokens: list[int] = []
    for turn in turns:
        tokens += [start, *tokenizer.encode(f"{turn.role}\n{turn.content}"), end, *newline]
    return [*tokens, start, *tokenizer.encode("assistant\n")]
