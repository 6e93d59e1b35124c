"""Records kept beside the outputs: the same as those read, and read again whenever that could be otherwise."""

import dataclasses
import json
import logging
import os
import types

import numpy as np
import pytest
import torch.multiprocessing as mp
from conftest import load_config, world
from prepare_command import write_json

from cvpack import dist
from cvpack.dist import free_port
from cvpack.files import read_json
from cvpack.logger import LOGGER
from lib.config import override
from lib.datasets import cache, coco, mpii
from lib.loader import train_loader, train_samples


@pytest.fixture
def root(tmp_path):
    """The folder of a small annotation file in COCO's layout; no images."""
    people = [
        {'image_id': 1, 'bbox': [10, 20, 40, 100], 'num_keypoints': n, 'keypoints': [5 * n, 6 * n, 2] * 17}
        for n in (1, 4, 17)
    ]
    write_json(tmp_path / coco.COCO.train_json, {'images': [{'id': 1, 'file_name': 'café.jpg'}], 'annotations': people})
    return tmp_path


def assert_same(a, b):
    for field in dataclasses.fields(a):
        one, other = getattr(a, field.name), getattr(b, field.name)
        assert type(one) is type(other), field.name
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other


class CountingReader(types.SimpleNamespace):
    """The data set module coco, counting how often its json is read."""

    def __init__(self, file: str = coco.__file__) -> None:
        super().__init__(__file__=file, reads=0)

    def train_records(self, dataset, min_keypoints):
        self.reads += 1
        return coco.train_records(dataset, min_keypoints)


def test_a_second_start_reads_no_json(root):
    reader, dataset, file = CountingReader(), coco.COCO.at(root), root / 'out' / 'train_records.npz'
    first, second = (cache.train_records(reader, dataset, 1, file) for _ in range(2))
    assert reader.reads == 1
    assert_same(first, coco.train_records(coco.COCO.at(root), 1))
    assert_same(second, first)
    assert os.listdir(file.parent) == [file.name]


def test_what_changes_the_records_has_the_json_read_again(root, tmp_path):
    reader, dataset, file = CountingReader(), coco.COCO.at(root), root / 'train_records.npz'
    cache.train_records(reader, dataset, 1, file)
    assert len(cache.train_records(reader, dataset, 4, file)) == 2  # another argument
    other_images = dataclasses.replace(dataset, images='pictures')
    assert cache.train_records(reader, other_images, 4, file).root == root / 'pictures'
    cache.train_records(reader, dataset, 4, file)
    content = read_json(root / coco.COCO.train_json)
    content['annotations'][2]['bbox'][0] = 11
    stat = (root / coco.COCO.train_json).stat()
    write_json(root / coco.COCO.train_json, content)  # as many bytes, at the same time
    os.utime(root / coco.COCO.train_json, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (root / coco.COCO.train_json).stat().st_size == stat.st_size
    assert cache.train_records(reader, dataset, 4, file).center[1, 0] == 31
    assert reader.reads == 5
    changed_code = tmp_path / 'coco.py'
    changed_code.write_text('# other code\n')
    other = CountingReader(str(changed_code))
    cache.train_records(other, dataset, 4, file)
    assert other.reads == 1


@pytest.mark.parametrize('damage', ['empty', 'truncated', 'flipped', 'foreign', 'pickle'])
def test_a_damaged_file_is_made_anew(root, damage):
    reader, dataset, file = CountingReader(), coco.COCO.at(root), root / 'train_records.npz'
    expected = cache.train_records(reader, dataset, 1, file)
    whole = file.read_bytes()
    middle = whole.index(expected.joints.tobytes())
    if damage == 'foreign':
        np.savez(file, something=np.arange(3))
    elif damage == 'pickle':
        np.savez(file, fingerprint=np.array([{'a': 1}], dtype=object))
    else:
        flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        file.write_bytes({'empty': b'', 'truncated': whole[:middle], 'flipped': flipped}[damage])
    assert_same(cache.train_records(reader, dataset, 1, file), expected)
    assert reader.reads == 2
    assert file.read_bytes() == whole


def test_images_that_moved_are_found_again(root):
    """Names may not tell the folder: where the images lay is no reason to look there."""
    dataset, file = coco.COCO.at(root), root / 'out/train_records.npz'
    for folder in ('train2014', 'val2014'):
        (root / 'images' / folder).mkdir(parents=True)
    (root / 'images/val2014/café.jpg').touch()
    assert cache.train_records(coco, dataset, 1, file).path(0) == root / 'images/val2014/café.jpg'
    (root / 'images/val2014/café.jpg').rename(root / 'images/train2014/café.jpg')
    assert cache.train_records(coco, dataset, 1, file).path(0) == root / 'images/train2014/café.jpg'


def test_a_folder_that_cannot_be_written_is_said(root, caplog):
    (root / 'blocked').write_text('a file')
    logging.getLogger(LOGGER).propagate = True
    with caplog.at_level(logging.INFO, LOGGER):
        records = cache.train_records(coco, coco.COCO.at(root), 1, root / 'blocked' / 'train_records.npz')
    assert len(records) == 3
    assert 'train_records.npz cannot be written' in caplog.text


def test_mpii_records_come_back(tmp_path):
    person = {'image': 'a.jpg', 'scale': 2, 'center': [5, 6], 'joints': [[1, 2]] * 16, 'joints_vis': [1] * 16}
    (tmp_path / 'gt_json').mkdir()
    (tmp_path / mpii.MPII.train_json).write_text(json.dumps([person, person]))
    dataset, file = mpii.MPII.at(tmp_path), tmp_path / 'train_records.npz'
    first, second = (cache.train_records(mpii, dataset, 1, file) for _ in range(2))
    assert_same(first, second)


def test_batches_from_kept_records_are_the_same(drawn, tmp_path):
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, [f'DATASET.ROOT={drawn}', 'SOLVER.IMS_PER_GPU=2', 'DATALOADER.NUM_WORKERS=0', 'INPUT_SHAPE=[64,64]'])
    batches = [
        next(iter(train_loader(cfg, train_samples(cfg, folder), first=6, batches=1)))
        for folder in (None, tmp_path, tmp_path)
    ]
    for batch in batches[1:]:
        for name, value in batches[0].items():
            np.testing.assert_array_equal(batch[name], value)


def _in_turn(rank: int, port: int, file: str, fails: bool) -> None:
    os.environ.update(world(rank, 2, port))
    dist.setup('cpu')
    try:
        with dist.main_first():
            with open(file, 'a') as log:
                log.write(f'{rank}')
            if fails:
                raise ValueError('as bad input would')
    except ValueError:
        assert fails
    dist.barrier()
    dist.cleanup()


@pytest.mark.parametrize('fails', [False, True])
def test_main_goes_first_and_keeps_nobody_waiting(tmp_path, fails):
    mp.spawn(_in_turn, (free_port(), str(tmp_path / 'log'), fails), nprocs=2)
    assert (tmp_path / 'log').read_text() == '01'
