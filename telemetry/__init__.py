"""Tracing, metrics and logging, set up once per process."""
