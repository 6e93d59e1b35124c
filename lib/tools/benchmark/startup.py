"""Section startup: from a COCO-size annotation file to the first batch; what its people cost each worker."""

import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from easydict import EasyDict

from cvpack.files import read_json
from lib.datasets.coco import COCO
from lib.loader import train_loader, train_samples
from lib.tools.benchmark.measure import Options, Row, compare
from lib.tools.layout import place

PEOPLE = 150_000
WORKERS = 2
BATCHES = 40


def startup(options: Options) -> Iterator[Row]:
    """First and second start; memory of a worker."""
    options.needs_data()
    _write_large_data_set(options.root, options.scratch / 'large')
    settings = 'SOLVER.IMS_PER_GPU=32', f'DATALOADER.NUM_WORKERS={WORKERS}'
    large = options.config(f'DATASET.ROOT={options.scratch / "large"}', *settings)
    first = _seconds_to_first_batch(large, options.scratch)
    second = statistics.median(_seconds_to_first_batch(large, options.scratch) for _ in range(options.repeats))
    name = f'{PEOPLE:,} people: json to first batch, second start against first, s'
    yield compare('startup', name, second, first, '<= 0.3')

    few, _ = _worker_memory(options.config(*settings), None)
    many, later = _worker_memory(large, options.scratch)
    yield Row('startup', "a worker's own memory with few people, MB", few)
    yield Row('startup', f'what {PEOPLE:,} people add to it, MB', many - few, reach='<= 10')
    yield Row('startup', f'what {BATCHES} more batches add to it, MB', later - many, reach='<= 10')


def _write_large_data_set(root: Path, large: Path) -> None:
    """The data set's annotations again and again, with ids of their own, to PEOPLE people; the same images."""
    content = read_json(root / COCO.train_json)
    people = [a for a in content['annotations'] if a.get('num_keypoints')]
    step = 1 + max(image['id'] for image in content['images'])
    copies = -(-PEOPLE // len(people))
    repeated = [
        {**person, 'id': copy * len(people) + i, 'image_id': person['image_id'] + copy * step}
        for copy in range(copies)
        for i, person in enumerate(people)
    ]
    images = [{**image, 'id': image['id'] + copy * step} for copy in range(copies) for image in content['images']]
    (large / COCO.train_json).parent.mkdir(parents=True)
    (large / COCO.train_json).write_text(json.dumps({**content, 'images': images, 'annotations': repeated[:PEOPLE]}))
    place(large / 'images', (root / 'images').resolve())


def _seconds_to_first_batch(cfg: EasyDict, cache: Path) -> float:
    start = time.perf_counter()
    next(iter(train_loader(cfg, train_samples(cfg, cache), first=0, batches=WORKERS)))
    return time.perf_counter() - start


def _worker_memory(cfg: EasyDict, cache: Path | None) -> tuple[float, float]:
    """MB that a worker shares with nobody, the mean of all workers: after its first batches, and later."""
    loader = iter(train_loader(cfg, train_samples(cfg, cache), first=0, batches=10 * BATCHES))
    workers = multiprocessing.active_children()
    memory = []
    for _ in range(2):
        for _ in range(BATCHES):
            next(loader)
        memory.append(sum(_private_megabytes(worker.pid) for worker in workers) / len(workers))
    return memory[0], memory[1]


def _private_megabytes(pid: int) -> float:
    """A process's memory that no other process shares (Linux)."""
    lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith('Private_')) / 1000
