"""Which addresses stay on this machine."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether what is sent to this host never leaves the machine; `[::1]` may have its brackets."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
