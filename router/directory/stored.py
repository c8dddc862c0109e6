"""What tenants and keys have in common as JSON documents."""

import re

from pydantic import BaseModel, ConfigDict, ValidationError

# Of tenants, keys, models, workers: they become parts of the broker's keys.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Stored(BaseModel):
    """A part of a document. Fields of a newer release are kept, so that routers of both can run side by side."""

    model_config = ConfigDict(frozen=True, extra="allow")


def reasons(error: ValidationError) -> str:
    """What is wrong with a document, by path. Never a value: it could be a secret's hash."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors())
