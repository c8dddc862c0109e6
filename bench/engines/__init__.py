"""GPU engines through the whole service, and alone: speed, cancelling, death, text. `python -m bench.engines`."""
