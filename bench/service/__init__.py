"""The whole service under load, beside a plain gRPC proxy and no proxy at all."""
