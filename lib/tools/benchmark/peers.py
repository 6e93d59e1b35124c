"""Section peers: this code beside straightforward PyTorch programs that do the same (plain.py)."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context

import torch
from torch.utils.data import default_collate

from cvpack.device import configure_device
from lib.inference import build_decoder, build_estimator
from lib.loader import train_samples
from lib.models.mspn import build_mspn
from lib.models.normalize import build_normalize
from lib.tools.benchmark.measure import Options, Row, compare, one_thread, take_turns
from lib.tools.benchmark.network import Steps
from lib.tools.benchmark.plain import PlainSamples, PlainStep, PlainTest, plain_decode
from lib.utils import heatmap

PEOPLE = 32
# A step takes new memory until its third repetition.
WARM_UP = 2

# The function that a process repeats, set by _prepare.
_repeated: Callable[[], object] = dict


def peers(options: Options) -> Iterator[Row]:
    """Training samples, decoding, a training step and a flip test, all in float32."""
    options.needs_data()
    with one_thread():
        yield from samples(options)
        yield decoding(options)
    what = f'{options.stages} stages, batch {options.batch}'
    ours, plain = in_turns(options, our_step, plain_step)
    yield compare('peers', f'a training step, {what}, against a plain one, s', ours, plain)
    ours, plain = in_turns(options, our_test, plain_test)
    yield compare('peers', f'a flip test with decoding, {what}, against a plain one, s', ours, plain)


def samples(options: Options) -> Iterator[Row]:
    """From JPEGs to a batch that the network and the loss can take; the bytes that leave the worker."""
    cfg = options.config()
    ours = train_samples(cfg)
    plain, normalize = PlainSamples(cfg, ours), build_normalize(cfg)
    indices = range(min(PEOPLE, len(ours)))

    def our_batch(position: Iterator[int]) -> None:
        batch = default_collate([ours[index, next(position)] for index in indices])
        joints, visibility = batch['keypoints'].split([2, 1], dim=-1)
        normalize(batch['image'])
        shapes = cfg.INPUT_SHAPE, cfg.OUTPUT_SHAPE
        heatmap.encode(joints, visibility, *shapes, cfg.DATASET.TRAIN.GAUSSIAN_KERNELS)

    def plain_batch(position: Iterator[int]) -> None:
        default_collate([plain[index, next(position)] for index in indices])

    first, second = count(), count()  # the same augmentations
    times = take_turns(options.repeats, lambda: our_batch(first), lambda: plain_batch(second))
    our_time, plain_time = (1000 * time / len(indices) for time in times)
    name = 'a training sample, ready for the network, against torchvision and numpy, ms'
    yield compare('peers', name, our_time, plain_time)
    our_size, plain_size = (sum(value.nbytes for value in one[0, 0].values()) / 1e6 for one in (ours, plain))
    yield compare('peers', 'a sample from worker to trainer, against the same, MB', our_size, plain_size)


def decoding(options: Options) -> Row:
    """Joints from a batch's heatmaps, against person by person."""
    cfg = options.config()
    decode, joints = build_decoder(cfg), cfg.DATASET.KEYPOINT.NUM
    maps = 255 * torch.rand(PEOPLE, joints, *cfg.OUTPUT_SHAPE)
    center, scale = torch.rand(2, PEOPLE, 2)

    def plain() -> None:
        for person in zip(maps.numpy(), center.numpy(), scale.numpy()):
            plain_decode(*person, cfg)

    times = take_turns(10 * options.repeats, lambda: decode(maps, center, scale), plain)
    our_time, plain_time = (1000 * time / PEOPLE for time in times)
    return compare('peers', 'decoding a person, against joint by joint, ms', our_time, plain_time)


def our_step(options: Options) -> Callable[[], object]:
    """A step of the trainer, under its own memory settings; likewise below, each for a process of its own."""
    configure_device(options.device)
    return Steps(options, ())


def plain_step(options: Options) -> Callable[[], object]:
    return PlainStep(options.config(), options.device)


def our_test(options: Options) -> Callable[[], object]:
    """A flip test of a batch of crops, joints included."""
    configure_device(options.device)
    cfg = options.config(f'TEST.IMS_PER_GPU={options.batch}')
    estimator = build_estimator(cfg, build_mspn(cfg), options.device)
    crops = torch.randint(0, 256, (options.batch, *cfg.INPUT_SHAPE, 3), dtype=torch.uint8)
    center, scale = torch.rand(2, options.batch, 2)

    @torch.inference_mode()
    def run() -> None:
        estimator(*(values.to(options.device) for values in (crops, center, scale))).cpu()

    return run


def plain_test(options: Options) -> Callable[[], object]:
    return PlainTest(options.config(f'TEST.IMS_PER_GPU={options.batch}'), options.device)


def in_turns(options: Options, *builders: Callable[[Options], Callable[[], object]]) -> list[float]:
    """The median seconds of functions in processes of their own, with their own settings, that take turns."""
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(ProcessPoolExecutor(1, get_context('spawn'), _prepare, (builder, options)))
            for builder in builders
        ]
        turns = [lambda process=process: process.submit(_turn, options.device).result() for process in processes]
        take_turns(WARM_UP, *turns)
        return take_turns(options.repeats, *turns)


def _prepare(builder: Callable[[Options], Callable[[], object]], options: Options) -> None:
    global _repeated
    _repeated = builder(options)


def _turn(device: torch.device) -> None:
    _repeated()
    if device.type == 'cuda':
        torch.cuda.synchronize()
