"""A fake of vLLM 0.26 that keeps to its documented API, as far as the adapter uses it."""

__version__ = "0.26.0"
