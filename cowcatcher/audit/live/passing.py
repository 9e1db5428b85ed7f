"""Signals that are sent to the audit while a program runs under it are the program's."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType


class PassesSignals:
    """Whoever has started a program, ``pid``. What would end us is passed on to it: it decides."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handlers: dict[int, object] = {}

    def poll(self) -> int | None:
        """The program's exit status, or minus the signal that ended it; None while it runs."""
        raise NotImplementedError

    def pass_signals_on(self) -> None:
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError):  # not the main thread: signals are somebody else's then
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._pass_on)

    def take_signals_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._handlers.clear()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """The terminal gives its signals to the whole group, the program included; others come to us alone.

        When the program has ended, and only what it left behind is still followed, they are meant for us.
        """
        if self.poll() is not None:
            raise KeyboardInterrupt
        if number in (signal.SIGINT, signal.SIGQUIT) and _in_foreground():
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _in_foreground() -> bool:
    """Whether the terminal's signals reach our process group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
