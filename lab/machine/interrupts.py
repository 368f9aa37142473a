"""Ctrl-C that waits until work can stop safely."""

import signal
import threading
from types import FrameType, TracebackType


class Interrupts:
    """A context that records the first Ctrl-C, so that work can stop at a point where its state is consistent.

    The second Ctrl-C stops at once. Python delivers signals to the main thread only; in other threads, the context has
    no effect.
    """

    def __init__(self) -> None:
        self.noted = False

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True

    def stop_if_noted(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was recorded."""
        if self.noted:
            raise KeyboardInterrupt
