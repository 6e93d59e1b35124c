"""Mixed precision by name."""

import torch

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def autocast(device_type: str, precision: str) -> torch.autocast:
    """The context in which convolutions and matrix products run in `precision`, a key of DTYPES; fp32: as ever."""
    return torch.autocast(device_type, DTYPES[precision], enabled=precision != 'fp32')
