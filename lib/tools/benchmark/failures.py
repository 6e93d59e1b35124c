"""A pytest plugin that tells of a failed test at once: pytest tells at the end, and time may be up before that."""

from typing import Any

BEGIN = 'failed: '


def pytest_runtest_logreport(report: Any) -> None:
    if report.failed:
        print(f'\n{BEGIN}{report.nodeid}\n{report.longreprtext}', flush=True)
