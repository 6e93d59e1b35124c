"""The formats of `export`: for each, how a network becomes the bytes of a file, and how those bytes compute again.

Files are made, and read back, in memory: what is compared with PyTorch is what is then written.
"""

import copy
import inspect
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from easydict import EasyDict
from torch import nn

from lib.inference import PoseEstimator, build_estimator
from lib.models.own import network_of
from lib.utils import optional

# Crops (N, H, W, 3) uint8 -> the outputs, in order.
Run = Callable[[np.ndarray], list[np.ndarray]]

OPSET = 17
EXTRA = 'export'
# To torch.export's question how many there may be: torch 2.4 fears an overflow otherwise.
MAX_CROPS = 2**20


class Exportable(nn.Module):
    """An estimator as a graph: from crops (N, H, W, 3) uint8 BGR to heatmaps (N, K, h, w), trained towards peaks of
    255; or with_decode to keypoints (N, K, 2) in pixels of the crop, and scores (N, K, 1). All float32."""

    def __init__(self, estimator: PoseEstimator, with_decode: bool) -> None:
        super().__init__()
        self.estimator, self.with_decode = estimator, with_decode

    def forward(self, crops: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        if not self.with_decode:
            return self.estimator.heatmaps(crops)
        return self.estimator(crops).split([2, 1], dim=-1)


def exported_estimator(cfg: EasyDict, model: nn.Module, half: bool = False) -> PoseEstimator:
    """What is exported of a network as it is loaded, which stays as it is: without flip test, on the CPU."""
    cfg = EasyDict({**cfg, 'TEST': {**cfg.TEST, 'FLIP': False, 'PRECISION': 'fp32'}})
    return build_estimator(cfg, copy.deepcopy(model), torch.device('cpu'), half).requires_grad_(False)


@dataclass(frozen=True)
class Export:
    """What is exported.

    model:    as it is loaded, in float32
    graph:    made of it, in the precision and with the outputs that are asked for
    metadata: travels in the file
    """

    cfg: EasyDict
    model: nn.Module
    graph: Exportable
    metadata: dict[str, str]

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Names of the graph's outputs and their shapes but for the batch."""
        joints = self.cfg.DATASET.KEYPOINT.NUM
        if self.graph.with_decode:
            return {'keypoints': (joints, 2), 'scores': (joints, 1)}
        return {'heatmaps': (joints, *self.cfg.OUTPUT_SHAPE)}

    @property
    def example(self) -> torch.Tensor:
        """An input to trace with. Two crops: from one torch.export would conclude that it is always one."""
        return torch.zeros(2, *self.cfg.INPUT_SHAPE, 3, dtype=torch.uint8)


@contextmanager
def _tracing() -> Iterator[None]:
    """Without gradients, and without PyTorch's word that tracing is old: it works in every version from 2.4 on."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        warnings.simplefilter('ignore', FutureWarning)
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        warnings.filterwarnings('ignore', 'Constant folding')  # of a slice, which is left in the graph
        warnings.filterwarnings('ignore', 'No complete tensor')  # channels-last weights, which are read back well
        yield


def _as_run(function: Callable) -> Run:
    """A PyTorch function of the crops as a Run."""

    @torch.no_grad()
    def run(crops: np.ndarray) -> list[np.ndarray]:
        outputs = function(torch.from_numpy(crops))
        return [value.numpy() for value in (outputs if isinstance(outputs, (tuple, list)) else [outputs])]

    return run


# ----------------------------------------------------------------------------------------------------------- ONNX


def write_onnx(export: Export) -> bytes:
    """An ONNX file, its metadata in metadata_props."""
    onnx = optional.load('onnx', EXTRA)
    # The exporter by tracing: the newer one needs two more packages. torch 2.4 has no other, nor the word for it.
    choice: dict[str, Any] = {'dynamo': False} if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
    buffer = io.BytesIO()
    with _tracing():
        torch.onnx.export(
            export.graph,
            (export.example,),
            buffer,  # type: ignore[arg-type]  # what the exporter by tracing takes
            opset_version=OPSET,
            input_names=['crops'],
            output_names=list(export.outputs),
            dynamic_axes={name: {0: 'batch'} for name in ('crops', *export.outputs)},
            **choice,
        )
    graph = onnx.load_model_from_string(buffer.getvalue())
    onnx.helper.set_model_props(graph, export.metadata)
    for output, shape in zip(graph.graph.output, export.outputs.values()):  # the tracer leaves h and w open
        for dimension, size in zip(output.type.tensor_type.shape.dim[1:], shape):
            dimension.dim_value = size
    onnx.checker.check_model(graph)
    return graph.SerializeToString()


def run_onnx(content: bytes, export: Export) -> Run:
    """The file in onnxruntime."""
    session = optional.load('onnxruntime', EXTRA).InferenceSession(content, providers=['CPUExecutionProvider'])
    return lambda crops: session.run(list(export.outputs), {'crops': crops})


# ---------------------------------------------------------------------------------------------------- torch.export


def write_torch_export(export: Export) -> bytes:
    """A file of torch.export's (.pt2), its metadata in extra files of their names."""
    batch = torch.export.Dim('batch', max=MAX_CROPS)
    buffer = io.BytesIO()
    with _tracing():
        export.graph(export.example)  # constants that are kept for later must not be made as symbols
        program = torch.export.export(export.graph, (export.example,), dynamic_shapes=({0: batch},), strict=False)
        torch.export.save(program, buffer, extra_files=export.metadata)
    return buffer.getvalue()


def run_torch_export(content: bytes, _: Export) -> Run:
    """The file in PyTorch."""
    with _tracing():
        return _as_run(torch.export.load(io.BytesIO(content)).module())


# ---------------------------------------------------------------------------------------------------- safetensors


def write_safetensors(export: Export) -> bytes:
    """The weights by the keys of checkpoints, BatchNorm on its own: no graph. Metadata in the file's own place."""
    dtype = export.graph.estimator.normalize.dtype
    state = {
        key: (value.to(dtype) if value.is_floating_point() else value).clone(memory_format=torch.contiguous_format)
        for key, value in export.model.state_dict().items()
    }
    return optional.load('safetensors.torch', EXTRA).save(state, export.metadata)


def run_safetensors(content: bytes, export: Export) -> Run:
    """The weights in a new network of the experiment's, in float32."""
    model = network_of(export.cfg)(export.cfg)
    model.load_state_dict(optional.load('safetensors.torch', EXTRA).load(content))
    return _as_run(exported_estimator(export.cfg, model).heatmaps)


# Name -> how it is written, how it is run again, and by what.
FORMATS = {
    'onnx': (write_onnx, run_onnx, 'onnxruntime'),
    'torch-export': (write_torch_export, run_torch_export, 'torch.export'),
    'safetensors': (write_safetensors, run_safetensors, "this project's network"),
}
