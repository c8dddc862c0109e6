"""The version, from the installed package's metadata: pyproject.toml is the one place that states it."""


def read_version() -> str:
    """Such as "0.1.0"; "0.0.0" in a tree that is not installed."""
    # Slow to import, and seldom needed.
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("bitlane")
    except PackageNotFoundError:
        return "0.0.0"
