"""The model's tokenizer, from the checkpoint's own vocabulary and merges.

Byte-level BPE as in GPT-2, after each digit has been split off (`tokenizer.ggml.pre` is "smollm").
"""

from functools import cached_property

from tokenizers import Tokenizer as _Bpe
from tokenizers import models, pre_tokenizers

from workers.engines.reference.gguf_file import GgufFile

_CONTROL = 3  # token type of special tokens in GGUF


class Tokenizer:
    """Text to tokens, and tokens to bytes.

    Special tokens are never made from text: what a user writes stays text, even "<|im_start|>". The chat template adds
    them by id (see `special`). `ends` are the tokens that end a reply: of a turn, and of a document.
    """

    def __init__(self, file: GgufFile) -> None:
        self._tokens = file.strings("tokenizer.ggml.tokens")
        types = file.metadata["tokenizer.ggml.token_type"]
        assert isinstance(types, list)
        self._special = {self._tokens[i]: i for i, kind in enumerate(types) if kind == _CONTROL}
        merges = [(first, second) for first, second in map(str.split, file.strings("tokenizer.ggml.merges"))]
        vocabulary = {token: i for i, token in enumerate(self._tokens)}
        self._bpe = _Bpe(models.BPE(vocab=vocabulary, merges=merges))
        self._bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        self.ends = frozenset({file.integer("tokenizer.ggml.eos_token_id"), self._special["<|endoftext|>"]})

    def special(self, name: str) -> int:
        """Id of a special token, such as "<|im_start|>". Raises KeyError."""
        return self._special[name]

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without special ones."""
        return self._bpe.encode(text, add_special_tokens=False).ids

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for: perhaps a part of a character; nothing for a special token."""
        text = self._tokens[token]
        return b"" if text in self._special else bytes(self._byte_of[c] for c in text)

    @cached_property
    def _byte_of(self) -> dict[str, int]:
        """GPT-2's alphabet: each byte is shown as one printable character, itself where it is printable."""
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [b for b in range(256) if b not in set(printable)]
        return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
