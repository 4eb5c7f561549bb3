"""A terminal that gives keys singly, and is then left as it was."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def pressed() -> str:
    """Waits for a key; returns it and those that came with it, or nothing when none can come."""
    if sys.platform == "win32":
        import msvcrt

        return msvcrt.getwch()
    return os.read(sys.stdin.fileno(), 64).decode(errors="replace")


@contextmanager
def single_keys() -> Iterator[bool]:
    """Whether keys can be read, singly and unseen, until the end; then all is as it was before."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not sys.stdin.isatty() or not sys.stdout.isatty() or sys.platform == "win32":
        yield sys.stdin.isatty() and sys.stdout.isatty()
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
