"""What the tools' command lines have in common."""

import argparse


def positive(text: str) -> int:
    """A number from 1, as argparse's `type`."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f'{text} is not a number from 1')
    return int(text)
