"""Requests to stop: schedulers' signals, remembered until the iteration is over."""

import signal

# Windows has no SIGUSR1.
SIGNALS = tuple(getattr(signal, name) for name in ('SIGTERM', 'SIGUSR1') if hasattr(signal, name))


class StopRequest:
    """In its `with` block SIGTERM and SIGUSR1 only set `requested`.

    After a request they stay ignored: a launcher that repeats it would kill the process before its exit code says that
    everything is saved.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> 'StopRequest':
        self.before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_IGN if self.requested else handler)

    def _remember(self, *_: object) -> None:
        self.requested = True
