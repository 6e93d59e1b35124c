"""Mixed precision by name."""

import contextlib

import torch

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def autocast(device_type: str, precision: str) -> contextlib.AbstractContextManager:
    """The context in which convolutions and matrix products run in `precision`, a key of DTYPES; fp32: as ever."""
    return contextlib.nullcontext() if precision == 'fp32' else torch.autocast(device_type, DTYPES[precision])
