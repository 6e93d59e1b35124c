"""python -m tests.support.gpu_code: compiles every kernel for a Hopper GPU, which needs none. Prints their names."""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from cvpack.kernels import batch_norm, batch_norm_passes, resize

TARGET = GPUTarget('cuda', 90, 32)
MAPS = {'ROWS': batch_norm.MAPS.rows, 'CHANNELS': batch_norm.MAPS.channels, 'STAGES': batch_norm.MAPS.stages}
SUMS = {'ROWS': batch_norm.SUMS.rows, 'CHANNELS': batch_norm.SUMS.channels}
RESIZING = {'ROWS': resize.ROWS, 'CHANNELS': resize.CHANNELS}
# The constants of a kernel; None: without that tensor, 1: as Triton takes that number when it is 1.
VARIANTS = [
    (batch_norm_passes.sum_values, MAPS),
    (batch_norm_passes.finish_statistics, {**SUMS, 'shift': None}),
    (batch_norm_passes.finish_statistics, {**SUMS, 'count': 1, 'channels': 1}),
    (batch_norm_passes.normalize, {**MAPS, 'RELU': True}),
    (batch_norm_passes.normalize, {**MAPS, 'RELU': False, 'add': None, 'channels': 1}),
    (batch_norm_passes.sum_gradients, {**MAPS, 'RELU': False}),
    (batch_norm_passes.sum_gradients, {**MAPS, 'RELU': True, 'y': None, 'dz': None}),
    (batch_norm_passes.finish_gradients, SUMS),
    (batch_norm_passes.differentiate, {**MAPS, 'RELU': True}),
    (resize._interpolate, RESIZING),
    (resize._gather, {**RESIZING, 'TAPS_H': 7, 'TAPS_W': 7}),
]
INTEGERS = 'rows', 'channels', 'rows_a_part', 'count', 'h', 'w', 'height', 'width'
FLOATS = 'eps', 'rate', 'step_h', 'step_w'
MAPS_OF = 'x', 'y', 'add', 'dx', 'dy', 'dz'
# Of a block, on the smallest of the GPUs since 2020.
SHARED_MEMORY = 101_376


def kind(name: str, dtype: str) -> str:
    """The type of a kernel's argument: maps are of the dtype, all other tensors float32."""
    if name in INTEGERS:
        return 'i32'
    return 'fp32' if name in FLOATS else f'*{dtype}' if name in MAPS_OF else '*fp32'


for kernel, constants in VARIANTS:
    names = kernel.arg_names
    for dtype, size in (('bf16', 2), ('fp32', 4)):
        values = {**constants, **({'ROWS': batch_norm.tile_rows(size)} if 'STAGES' in constants else {})}
        signature = {name: 'constexpr' if name in values else kind(name, dtype) for name in names}
        # As usual in a network: only then are loads under way together.
        hinted = [at for at, name in enumerate(names) if signature[name] not in ('constexpr', 'fp32')]
        source = ASTSource(
            fn=kernel,
            signature=signature,
            constexprs={(names.index(name),): value for name, value in values.items()},
            attrs={(at,): [['tt.divisibility', 16]] for at in hinted},
        )
        code = triton.compile(source, target=TARGET)
        assert '.target sm_90' in code.asm['ptx']
        assert code.metadata.shared <= SHARED_MEMORY, (kernel.__name__, dtype, code.metadata.shared)
        print(kernel.__name__)
