"""What all routers are asked: the same replies of the same model server, in the ways that tell them apart."""

from bench.service.cases import Case

FIRST, UNARY, FLOOD, STEADY, FULL = "first token", "unary", "flood", "64 streams", "256 streams"

CASES = (
    Case(FIRST, "one client, one stream after the other, 5 ms between tokens", 5, requests=60, at_once=1, tokens=4),
    Case(UNARY, "not streamed, 1 token, 32 callers", 0, requests=400, at_once=32, tokens=1, stream=False),
    Case(FLOOD, "64 tokens as fast as they come, 32 callers", 0, requests=320, at_once=32),
    Case(STEADY, "64 tokens, 5 ms between them, 64 callers: at most 203 streams/s", 5, requests=256, at_once=64),
    Case(FULL, "64 tokens, 5 ms between them, 256 callers: at most 813 streams/s", 5, requests=1024, at_once=256),
)
