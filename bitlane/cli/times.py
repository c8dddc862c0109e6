"""Short times in words."""


def short(seconds: float) -> str:
    """`0 ms`, `250 ms`, `2.50 s`, `12.5 s`, `140 s`, `14.2 min`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds >= 599.5:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s" if seconds < 99.95 else f"{seconds:.0f} s"
