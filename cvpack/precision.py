"""Mixed precision by name, and whether a CPU is made for it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
# Linux's names for a CPU's instructions that multiply such numbers, on x86 and ARM.
INSTRUCTIONS = {'bf16': {'avx512_bf16', 'amx_bf16', 'bf16'}, 'fp16': {'avx512_fp16', 'amx_fp16', 'asimdhp'}}
CPU_INFO = Path('/proc/cpuinfo')


def autocast(device_type: str, precision: str) -> contextlib.AbstractContextManager:
    """The context in which convolutions and matrix products run in `precision`, a key of DTYPES; fp32: as ever."""
    return contextlib.nullcontext() if precision == 'fp32' else torch.autocast(device_type, DTYPES[precision])


def cpu_multiplies(precision: str) -> bool | None:
    """Whether this CPU has instructions for bf16 or fp16; None: the system, other than Linux, does not say."""
    try:
        return bool(INSTRUCTIONS[precision] & set(CPU_INFO.read_text(errors='replace').split()))
    except OSError:
        return None


def advice(device_type: str, precision: str, key: str) -> Iterator[str]:
    """What to tell a user whose CPU is much faster, or much slower, in another precision. key: the setting's name"""
    if device_type != 'cpu':
        return
    if precision == 'fp32' and cpu_multiplies('bf16'):
        yield f'this CPU multiplies bf16 numbers: {key}=bf16 is about twice as fast'
    elif precision != 'fp32' and cpu_multiplies(precision) is False:
        yield f'warning: this CPU cannot multiply {precision} numbers: {key}=fp32 may be ten times as fast'
