"""Ctrl-C that waits for a good moment."""

import signal
import threading
from types import FrameType, TracebackType


class Interrupts:
    """A context in which the first Ctrl-C is only noted, so that work can stop where its state is whole.

    The second Ctrl-C stops at once. Outside the main thread, where Python takes no signals, nothing changes.
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
        """Raise the KeyboardInterrupt that was noted, if one was."""
        if self.noted:
            raise KeyboardInterrupt
