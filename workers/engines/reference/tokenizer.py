"""The model's tokenizer, from the checkpoint's own vocabulary and merges.

Byte-level BPE as in GPT-2, after each digit has been split off (`tokenizer.ggml.pre` is "smollm").
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer as _Bpe
from tokenizers import decoders, models, pre_tokenizers

from precision.untyped import integer, items, mapping, strings, text
from workers.engines.reference.gguf_file import GgufFile

_CONTROL = 3  # token type of special tokens in GGUF


class Tokenizer:
    """Text to tokens, and tokens to bytes.

    Special tokens are never made from text: what a user writes stays text, even "<|im_start|>". The chat template adds
    them by id (see `special`). `ends` are the tokens that end a reply: of a turn, and of a document.
    """

    def __init__(self, tokens: Sequence[str], merges: Sequence[str], special: Sequence[int], end: int) -> None:
        """`merges` are pairs with a space between; `special` are ids, and `end` ends a turn."""
        self._tokens = list(tokens)
        self._special = {self._tokens[i]: i for i in special}
        pairs = [(first, second) for first, second in map(str.split, merges)]
        self._bpe = _Bpe(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=pairs))
        self._bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        self.ends = frozenset({end, self._special["<|endoftext|>"]})

    @classmethod
    def of_gguf(cls, file: GgufFile) -> Self:
        types = file.metadata["tokenizer.ggml.token_type"]
        assert isinstance(types, list)
        return cls(
            file.strings("tokenizer.ggml.tokens"),
            file.strings("tokenizer.ggml.merges"),
            [i for i, kind in enumerate(types) if kind == _CONTROL],
            file.integer("tokenizer.ggml.eos_token_id"),
        )

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """From tokenizer.json, as `python -m checkpoints` writes it, and config.json. Raises OSError or ValueError."""
        written = mapping(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")))
        model = mapping(written.get("model"))
        by_id = {integer(id_): token for token, id_ in mapping(model.get("vocab")).items()}
        added = [mapping(token) for token in items(written.get("added_tokens"))]
        by_id |= {integer(token.get("id")): text(token.get("content")) for token in added}
        pairs = [" ".join(strings(merge)) or text(merge) for merge in items(model.get("merges"))]
        config = mapping(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        special = [integer(token.get("id")) for token in added if token.get("special")]
        return cls([by_id[i] for i in range(len(by_id))], pairs, special, integer(config.get("eos_token_id")))

    def written(self) -> str:
        """The same tokenizer as a tokenizer.json, which other engines read."""
        whole = _Bpe.from_str(self._bpe.to_str())
        whole.decoder = decoders.ByteLevel()
        whole.add_special_tokens(list(self._special))  # pyright: ignore[reportUnknownMemberType]
        return whole.to_str(pretty=False)

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
