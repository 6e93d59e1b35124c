"""Ports for the processes of a test, never fixed ones."""

import contextlib
import random
import socket

# Below the ports of outgoing connections, one of which could take it first.
FREE_PORTS = range(20000, 30000)


def free_port() -> int:
    """A port of this machine that nobody listens on, for processes about to use it as MASTER_PORT."""
    while True:
        port = random.choice(FREE_PORTS)
        with contextlib.suppress(OSError), socket.create_server(('127.0.0.1', port)):
            return port
