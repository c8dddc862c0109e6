"""Every default of the SDK, in one place. Times are seconds unless a name says otherwise."""

TARGET = "localhost:50051"
PORT = 50051

# A reply: generous, because a request may wait for its turn. The server ends the request when it passes.
TIMEOUT = 600.0
# Calls that answer at once: explain, cancel, list_models, policies and administration.
UNARY_TIMEOUT = 10.0
# The Cancel that `Stream.close()` sends when no connection is left to cut.
CLOSE_TIMEOUT = 2.0

# A half-open connection is found within their sum. 10 s is the least that gRPC servers are asked to accept.
KEEPALIVE_TIME_MS = 10_000
KEEPALIVE_TIMEOUT_MS = 5_000
# gRPC's own reconnecting; its defaults (1 s growing to 120 s) would outlast a router's restart by far.
RECONNECT_INITIAL_MS = 100
RECONNECT_MAX_MS = 1_000

# As much as a server sends. gRPC's own 4 MiB would not do for usage that is told apart by everything.
MAX_MESSAGE_BYTES = 16 << 20

ENV_TARGET = "BITLANE_TARGET"
ENV_API_KEY = "BITLANE_API_KEY"
