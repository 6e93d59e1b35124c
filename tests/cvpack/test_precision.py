"""What a run says about a CPU that is made for another precision."""

import pytest

from cvpack import precision

X86, ARM = 'flags\t\t: fpu avx2 avx512_bf16 avx512_fp16', 'Features\t: fp asimd asimdhp bf16'
OLD = 'flags\t\t: fpu avx2 fma'


@pytest.mark.parametrize(
    ('cpu', 'device', 'chosen', 'expected'),
    [
        (X86, 'cpu', 'fp32', 'K=bf16 is about twice as fast'),
        (ARM, 'cpu', 'fp32', 'K=bf16 is about twice as fast'),
        (X86, 'cpu', 'bf16', None),
        (ARM, 'cpu', 'fp16', None),
        (OLD, 'cpu', 'fp32', None),
        (OLD, 'cpu', 'bf16', 'this CPU cannot multiply bf16 numbers: K=fp32'),
        (OLD, 'cpu', 'fp16', 'this CPU cannot multiply fp16 numbers: K=fp32'),
        (OLD, 'cuda', 'bf16', None),
        (X86, 'cuda', 'fp32', None),
        (None, 'cpu', 'bf16', None),  # a system that does not say
    ],
)
def test_a_cpu_and_its_precisions(monkeypatch, tmp_path, cpu, device, chosen, expected):
    if cpu is not None:
        (tmp_path / 'cpuinfo').write_text(f'processor\t: 0\n{cpu}\n')
    monkeypatch.setattr(precision, 'CPU_INFO', tmp_path / 'cpuinfo')
    lines = list(precision.advice(device, chosen, 'K'))
    assert len(lines) == (expected is not None) and (expected is None or expected in lines[0])
