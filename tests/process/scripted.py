"""What the scripted engine must have said: the expectation of every process test."""

from workers.engines.scripted import scripted_text, scripted_token

ACME = "bl_local_acme"
GLOBEX = "bl_local_globex"
ACME_ADMIN = "bl_local_acme_admin"
OPERATOR = "bl_local_admin"


def expected_tokens(prompt: str, count: int) -> tuple[int, ...]:
    """The first tokens of the reply to a plain prompt."""
    return tuple(scripted_token(prompt, i) for i in range(count))


def expected_text(prompt: str, count: int) -> str:
    return "".join(scripted_text(prompt, i) for i in range(count))
