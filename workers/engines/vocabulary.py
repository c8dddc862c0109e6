"""The tokenizer of a checkpoint in the Hugging Face layout: text to tokens, tokens to bytes, conversations to tokens.

Engines get and give token ids only. What a token stands for is decided here, byte by byte, for every engine alike: so
characters over several tokens, stop texts and a reply that moves to another worker come out the same everywhere.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from precision.untyped import integer, items, mapping, text
from workers.engine import Message
from workers.engines.chat_template import ChatTemplate

_SPACE = "\u2581"  # what SentencePiece writes for a space


class VocabularyError(ValueError):
    """The checkpoint's tokenizer cannot be used; the message names the file and what is wrong."""


class Vocabulary:
    """`ends` are the tokens that end a reply; `context_tokens` is what the model was made for, 0: unknown."""

    def __init__(self, folder: Path) -> None:
        """Raises VocabularyError."""
        self._folder = folder
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise VocabularyError(f"{path}: there is no such file; engines need the checkpoint's fast tokenizer")
        try:
            # Two of them: one reads a special token's text as text, the other as the token.
            self._plain, self._marked = Tokenizer.from_file(str(path)), Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more specific
            raise VocabularyError(f"{path}: {error}") from error
        self._plain.encode_special_tokens = True
        written = _read(path)
        self._byte_level = _is_byte_level(written.get("decoder"), path)
        added = [mapping(token) for token in items(written.get("added_tokens"))]
        self._added = {integer(token.get("id")): text(token.get("content")) for token in added}
        self._special = frozenset(integer(token.get("id")) for token in added if token.get("special"))
        self._bytes: dict[int, bytes] = {}
        config = _read(folder / "config.json")
        self.context_tokens = integer(_text_config(config).get("max_position_embeddings"))
        self.ends = frozenset(_ends(config)) | frozenset(_ends(_read(folder / "generation_config.json")))
        if not self.ends:
            raise VocabularyError(f"{folder}: neither config.json nor generation_config.json has an eos_token_id")

    def encode(self, prompt: str) -> list[int]:
        """Tokens of a plain prompt, with what the tokenizer puts before each text. No special token comes from text."""
        return self._plain.encode(prompt).ids

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation, up to where the assistant's next turn begins.

        A special token's text in what somebody wrote is broken up: nobody ends a turn or begins a system turn that way.

        Raises:
            VocabularyError: the checkpoint has no chat template, or it refuses these turns.
        """
        turns = [Message(turn.role, self._defused(turn.content)) for turn in messages]
        # The template writes all that belongs before a conversation itself.
        return self._marked.encode(self._template.render(turns), add_special_tokens=False).ids

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for: perhaps a part of a character; nothing for a special or unknown token."""
        known = self._bytes.get(token)
        if known is None:
            known = self._bytes[token] = self._bytes_of(token)
        return known

    def _bytes_of(self, token: int) -> bytes:
        if token in self._special:
            return b""
        if token in self._added:
            return self._added[token].encode()
        piece = self._plain.id_to_token(token)
        if piece is None:
            return b""
        if self._byte_level:
            return bytes(_BYTES[c] for c in piece) if all(c in _BYTES for c in piece) else piece.encode()
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        return piece.replace(_SPACE, " ").encode()

    def _defused(self, content: str) -> str:
        for special in self._special_texts:
            if special in content:
                # A zero-width non-joiner after the first character: to the eye it is still what was written.
                content = content.replace(special, f"{special[:1]}\u200c{special[1:]}")
        return content

    @cached_property
    def _special_texts(self) -> tuple[str, ...]:
        return tuple(self._added[token] for token in sorted(self._special))

    @cached_property
    def _template(self) -> ChatTemplate:
        config = _read(self._folder / "tokenizer_config.json")
        path = self._folder / "chat_template.jinja"
        template = path.read_text(encoding="utf-8") if path.is_file() else text(config.get("chat_template"))
        for named in map(mapping, items(config.get("chat_template"))):
            if named.get("name") == "default":
                template = template or text(named.get("template"))
        if not template:
            raise VocabularyError(f"{self._folder}: the checkpoint has no chat template, so it takes prompts only")
        names = {key: _content(config.get(key)) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
        return ChatTemplate(template, {key: name for key, name in names.items() if name})


def _is_byte_level(decoder: object, path: Path) -> bool:
    """Whether tokens are written in GPT-2's alphabet of bytes, or else as SentencePiece writes them."""
    said = mapping(decoder)
    kinds = {text(mapping(part).get("type")) for part in items(said.get("decoders")) or [said]}
    if "ByteLevel" in kinds:
        return True
    if "Replace" in kinds or "Metaspace" in kinds:
        return False
    raise VocabularyError(f"{path}: decoder {sorted(kinds)} is neither byte-level nor SentencePiece's")


def _read(path: Path) -> Mapping[str, object]:
    if not path.is_file():
        return {}
    try:
        return mapping(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise VocabularyError(f"{path}: is not JSON: {error}") from error


def _text_config(config: Mapping[str, object]) -> Mapping[str, object]:
    """Multimodal checkpoints keep the language model's sizes in a part of their own."""
    return mapping(config.get("text_config")) or config


def _ends(config: Mapping[str, object]) -> list[int]:
    value = config.get("eos_token_id", _text_config(config).get("eos_token_id"))
    return [token for token in items(value) or [value] if isinstance(token, int)]


def _content(token: object) -> str:
    """A special token's text: written plainly, or as an object."""
    return text(token) or text(mapping(token).get("content"))


def _alphabet() -> dict[str, int]:
    """GPT-2's alphabet: each byte is shown as one printable character, itself where it is printable."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(printable)]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTES = _alphabet()
