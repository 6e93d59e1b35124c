"""Data loaders: from a configuration to batches of samples."""

import os
import sys
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from easydict import EasyDict
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from cvpack import dist
from cvpack.samplers import TrainBatchSampler, shard, worker_by_worker
from cvpack.workers import configure_worker, starting_workers
from lib.config import home
from lib.datasets.coco import CocoReader
from lib.datasets.description import Description
from lib.datasets.joints import TestSamples, TrainSamples
from lib.datasets.mpii import MpiiReader
from lib.datasets.records import Reader, Records
from lib.utils.transforms import Augmentation
from lib.utils.views import View

FORMATS: dict[str, type[Reader]] = {'COCO': CocoReader, 'MPII': MpiiReader}

FEWER_WORKERS = 'set DATALOADER.NUM_WORKERS to fewer (0: none)'


def dataset_of(cfg: EasyDict) -> Description:
    """The configuration's data set, with an absolute path."""
    dataset = Description.from_config(cfg.DATASET)
    return dataset.at(home() / dataset.root)


def reader_of(cfg: EasyDict) -> Reader:
    """The reader of the configuration's data set."""
    return FORMATS[cfg.DATASET.FORMAT](dataset_of(cfg))


def _init_worker(_: int) -> None:
    """Makes OpenCV use a single thread, so that workers do not compete for cores."""
    cv2.setNumThreads(0)
    configure_worker()


class Loader(DataLoader):
    """A DataLoader that reports in one line if the system refuses to start its workers."""

    def __iter__(self) -> _BaseDataLoaderIter:
        with starting_workers(FEWER_WORKERS):
            return super().__iter__()


def _options(cfg: EasyDict) -> dict:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    workers = min(cfg.DATALOADER.NUM_WORKERS, cores)
    return dict(
        num_workers=workers,
        worker_init_fn=_init_worker,
        # Forked workers start at once and share the records; other methods, the default of Python 3.14, copy them.
        multiprocessing_context='fork' if workers and sys.platform == 'linux' else None,
        pin_memory=cfg.MODEL.DEVICE == 'cuda' and torch.cuda.is_available(),
    )


def train_samples(cfg: EasyDict) -> TrainSamples:
    """The training set of a configuration."""
    keypoint = cfg.DATASET.KEYPOINT
    ranges = {name.lower(): value for name, value in cfg.DATASET.TRAIN.items() if name != 'GAUSSIAN_KERNELS'}
    return TrainSamples(
        reader_of(cfg).train_records(keypoint.LOAD_MIN_NUM),
        Augmentation(**ranges),
        keypoint.FLIP_PAIRS,
        keypoint.UPPER_BODY_IDS,
        cfg.INPUT_SHAPE,
        cfg.SOLVER.SEED,
        cfg.CODEC,
        cfg.DATALOADER.REDUCED_JPEG,
    )


def test_samples(cfg: EasyDict, records: Records, views: Sequence[View] = ()) -> TestSamples:
    """The crops that a configuration tests people on."""
    extension = cfg.TEST.X_EXTENSION, cfg.TEST.Y_EXTENSION
    return TestSamples(records, extension, cfg.INPUT_SHAPE, cfg.CODEC, views)


def train_loader(cfg: EasyDict, samples: TrainSamples, first: int, batches: int) -> DataLoader:
    """So many of this rank's batches, starting at sample `first` of the run.

    A batch holds image (B, H, W, 3) uint8 and keypoints (B, K, 3) float32: x and y in crop pixels, visibility.
    """
    sampler = TrainBatchSampler(
        len(samples),
        cfg.SOLVER.IMS_PER_GPU,
        first,
        batches,
        cfg.SOLVER.SEED,
        dist.rank(),
        dist.world_size(),
    )
    return Loader(samples, batch_sampler=sampler, **_options(cfg))


def test_loader(cfg: EasyDict, records: Records, views: Sequence[View] = ()) -> DataLoader:
    """This rank's shard of the test set; the ranks together have every sample once.

    A batch holds image (B, H, W, 3) uint8, center (B, 2), scale (B, 2), and image1, image2, ... for further views.
    The people of an image are adjacent, so that its file is read once: `batch_sampler` is the list of batches, each a
    list of record indices.
    """
    samples = test_samples(cfg, records, views)
    options, size = _options(cfg), cfg.TEST.IMS_PER_GPU
    part = shard(len(samples), dist.rank(), dist.world_size())
    order = np.argsort(records.paths, kind='stable')[part.start : part.stop].tolist()
    batches = [order[first : first + size] for first in range(0, len(order), size)]
    return Loader(samples, batch_sampler=worker_by_worker(batches, options['num_workers']), **options)
