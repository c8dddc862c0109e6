"""Chat templates of checkpoints: Jinja, with the few functions that Hugging Face's transformers gives them."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workers.engine import Message


class TemplateRefused(ValueError):
    """The template cannot be read, or does not take these turns; the message is the template's own."""


class ChatTemplate:
    """Renders conversations. `names` are the special tokens that the template may use, such as bos_token."""

    def __init__(self, text: str, names: Mapping[str, str]) -> None:
        """Raises TemplateRefused."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse  # pyright: ignore[reportArgumentType] - any function may be one
        environment.globals["strftime_now"] = _now  # pyright: ignore[reportArgumentType]
        self._names = dict(names)
        try:
            self._template = environment.from_string(text)
        except TemplateError as error:
            raise TemplateRefused(f"the checkpoint's chat template cannot be read: {error}") from error

    def render(self, messages: Sequence[Message]) -> str:
        """The text of a conversation, up to where the assistant's next turn begins. Raises TemplateRefused."""
        turns = [{"role": turn.role, "content": turn.content} for turn in messages]
        try:
            return self._template.render(messages=turns, add_generation_prompt=True, **self._names)
        except TemplateError as error:
            raise TemplateRefused(str(error)) from error


def _to_json(value: object, ensure_ascii: bool = False, indent: int | None = None) -> str:
    # Jinja's own filter escapes for HTML.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _refuse(message: str) -> str:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)  # noqa: DTZ005 - templates tell the model the local date
