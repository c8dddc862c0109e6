"""The gRPC service: identity, validation, decision, admission, relay."""
