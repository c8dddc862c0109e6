"""Short times in words."""


def short(seconds: float) -> str:
    """`0 ms`, `250 ms`, `2.50 s`, `14.2 min`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 600 else f"{seconds / 60:.1f} min"
