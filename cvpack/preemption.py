"""Being asked to stop: the signals of schedulers, remembered until the iteration is over."""

import signal
from types import FrameType, TracebackType

# Windows has no SIGUSR1.
SIGNALS = tuple(getattr(signal, name) for name in ('SIGTERM', 'SIGUSR1') if hasattr(signal, name))


class StopRequest:
    """In its `with` block the process's SIGTERM and SIGUSR1 do nothing but set `requested`.

    After a request they do nothing afterwards either: a launcher that asks again would end the process before its exit
    code said that all is saved.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> 'StopRequest':
        self.before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_IGN if self.requested else handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
