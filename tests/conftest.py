"""For all tests."""

import signal


def pytest_configure() -> None:
    """Ctrl-C works, as some tests need it: whoever runs them in the background may have it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
