"""What may be said of an engine's error: all of it to nobody, a part to the operator's log.

The text of an error can hold a prompt. So the log gets the types of the error and of its causes, where it was raised,
and its text only when that shares nothing with the job. The client gets none of it.
"""

import re
import traceback
from collections.abc import Iterator

from workers.engine import Job

_LONGEST = 300
_SHARED = 12  # characters in a row
_NUMBERS = re.compile(r"\[\s*-?\d[\d\s,.\-e]*\]")  # token ids


def facts(error: BaseException, job: Job | None = None) -> dict[str, str]:
    """Fields for a log line about an engine's error."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename.rsplit('site-packages/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    return {"error": " < ".join(_types(error)), "at": place, "text": sanitised(str(error), job)}


def sanitised(text: str, job: Job | None) -> str:
    """An error's text, cut to 300 characters, without lists of numbers; nothing of it when it shares 12 characters in a
    row with the job's prompt, reply, stop texts or guide."""
    text = _NUMBERS.sub("[...]", " ".join(text[: 4 * _LONGEST].split()))[:_LONGEST]
    if job is None:
        return text
    for content in _contents(job):
        if len(content) < _SHARED:
            shared = len(content) >= 4 and content in text
        else:
            shared = any(text[at : at + _SHARED] in content for at in range(max(0, len(text) - _SHARED + 1)))
        if shared:
            return "withheld: it holds a part of the request"
    return text


def _contents(job: Job) -> Iterator[str]:
    yield job.prompt or ""
    for message in job.messages:
        yield message.content
    yield job.generated.text
    yield from job.sampling.stop
    if job.guided is not None:
        yield job.guided[1]


def _types(error: BaseException) -> Iterator[str]:
    seen = 0
    cause: BaseException | None = error
    while cause is not None and seen < 5:
        yield f"{type(cause).__module__}.{type(cause).__qualname__}".removeprefix("builtins.")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
        seen += 1
