"""What is measured: each case is one kind of load, put on every variant in turn."""

from dataclasses import dataclass

from bench.service.load import Work

# Of a client that waits for its replies one by one, and of many that do not wait for each other.
_ONE, _MANY = 1, 32


@dataclass(frozen=True, slots=True)
class Case:
    """`token_ms`: between the tokens of a stream. `clients`: processes that share the requests and callers."""

    name: str
    says: str
    token_ms: float
    requests: int
    at_once: int
    tokens: int = 64
    prompt_bytes: int = 40
    stream: bool = True
    cancel: bool = False
    clients: int = 1

    def work(self, target: str, tag: str, share: float = 1.0) -> Work:
        """The load of one round, or a share of it."""
        return Work(
            target=target,
            requests=max(1, round(self.requests * share)),
            at_once=max(1, round(self.at_once * share)),
            tokens=self.tokens,
            prompt_bytes=self.prompt_bytes,
            stream=self.stream,
            cancel=self.cancel,
            tag=f"{self.name} {tag}",
        )


CASES = (
    Case("first token", "one client, one stream after the other", 5, requests=60, at_once=_ONE, tokens=4),
    Case("unary", "Complete, 1 token", 0, requests=600, at_once=_MANY, tokens=1, stream=False),
    Case("flood", "64 tokens as fast as they come", 0, requests=300, at_once=_MANY),
    Case("64 streams", "5 ms between tokens", 5, requests=128, at_once=64),
    Case("512 streams", "5 ms between tokens", 5, requests=512, at_once=512),
    Case(
        "cancel storm", "every stream left after its first token", 5, requests=400, at_once=64, tokens=200, cancel=True
    ),
    Case("large prompts", "100 KB each, 4 tokens", 0, requests=80, at_once=8, tokens=4, prompt_bytes=100_000),
)
