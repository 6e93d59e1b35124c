"""Where results of tests go: different tests never write over each other's."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch

from cvpack.files import read_json, write_json
from lib import engine
from lib.config import override
from lib.datasets.description import COCO
from lib.evaluation import test_folder as results
from tests.support.annotations import change_all, coco_with
from tests.support.commands import call, experiment, names_all, refused
from tests.support.networks import OneLayer
from tests.support.settings import load_config, tiny_settings


class Trials:
    """Checkpoints of a random network, and test.py on a data set of its own."""

    def __init__(self, root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch, self.results = folder, monkeypatch, folder / 'out/test_dir'
        self.settings = [*tiny_settings(root, folder / 'out'), 'DATALOADER.NUM_WORKERS=0', 'MODEL.STAGE_NUM=1']

    def save(self, name: str, seed: int = 0) -> str:
        cfg = load_config('mspn.2xstg.coco')
        override(cfg, self.settings)
        torch.manual_seed(seed)
        path = self.folder / f'{name}.pth'
        path.parent.mkdir(exist_ok=True)
        torch.save({'model': OneLayer(cfg).state_dict()}, path)
        return str(path)

    def run(self, *arguments: str, changes: tuple[str, ...] = ()) -> None:
        call(self.monkeypatch, engine.test, *arguments, '--set', *self.settings, *changes)

    def refused(self, capsys, *arguments: str, changes: tuple[str, ...] = ()) -> str:
        """The line of a test that is refused before it predicts, and leaves all results as they are."""
        before = self.content()
        with self.monkeypatch.context() as patch:
            patch.setattr(engine, 'predict', lambda *_: pytest.fail('hours were spent on a test that is refused'))
            entry = experiment(engine.test, patch)
            error = refused(capsys, entry, *arguments, '--set', *self.settings, *changes)
        assert self.content() == before
        return error

    def content(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.results.rglob('*') if path.is_file()}


@pytest.fixture
def tests(synthetic_coco, tmp_path, monkeypatch, one_layer):
    return Trials(coco_with(synthetic_coco, tmp_path / 'COCO', {}), tmp_path, monkeypatch)


def test_more_people_in_an_image_than_count(tests, capsys):
    """AP cannot reach 100: said beside it. Not of the usual."""
    tests.run('--weights', tests.save('a'))
    assert 'warning' not in capsys.readouterr().out
    file = tests.folder / 'COCO' / COCO.val_json
    content = read_json(file)
    many = [{**content['annotations'][0], 'id': 10_000 + number} for number in range(21)]
    write_json(file, content | {'annotations': [*content['annotations'], *many]})
    tests.run('--weights', tests.save('b'), '--name', 'many')
    assert 'warning: images with more than 20 people: 1, up to 2' in capsys.readouterr().out


def moved_truth(tests: Trials) -> None:
    file = tests.folder / 'COCO' / COCO.val_json
    write_json(file, change_all('annotations', area=123.0)(read_json(file)))


def moved_boxes(tests: Trials) -> None:
    file = tests.folder / 'COCO' / COCO.val_boxes
    write_json(file, [{**box, 'score': 0.5} for box in read_json(file)])


OTHERS = {
    'other weights of the name': ('b/iter-8', (), lambda _: None, 'weights_sha256'),
    'without flip': ('a/iter-8', ('TEST.FLIP=False',), lambda _: None, 'TEST.FLIP True, now False'),
    'another size': ('a/iter-8', ('INPUT_SHAPE=[128,128]',), lambda _: None, 'INPUT_SHAPE [64, 64], now [128, 128]'),
    'another codec': ('a/iter-8', ('CODEC=dark',), lambda _: None, 'CODEC standard, now dark'),
    'another truth': ('a/iter-8', (), moved_truth, 'data_sha256'),
    'other boxes': ('a/iter-8', (), moved_boxes, 'data_sha256'),
}


@pytest.mark.parametrize('case', OTHERS.values(), ids=OTHERS)
def test_another_test_is_refused_until_it_has_a_name(tests, capsys, case):
    other, changes, change, said = case
    first, second = tests.save('a/iter-8'), tests.save(other, seed=other.startswith('b'))
    tests.run('--weights', first)
    kept = tests.content()
    change(tests)
    error = tests.refused(capsys, '--weights', second, changes=changes)
    names_all(error, tests.results / 'iter-8', said, '--name', 'iter-8.NAME')
    tests.run('--weights', second, '--name', 'other', changes=changes)
    assert (tests.results / 'iter-8.other/results.json').exists()
    assert kept.items() <= tests.content().items()


def test_the_same_test_may_be_repeated(tests):
    """From another folder, in other batches, and by a version that told less."""
    first = tests.save('a/iter-8')
    tests.run('--weights', first)
    (tests.folder / 'b').mkdir()
    same = shutil.copy(first, tests.folder / 'b/iter-8.pth')
    shutil.copytree(tests.folder / 'COCO', tests.folder / 'moved')
    irrelevant = ('TEST.IMS_PER_GPU=2', 'TEST.CUDA_GRAPH=True', 'SOLVER.BASE_LR=1', 'DATASET.TRAIN.PROB_FLIP=0.1')
    tests.run('--weights', str(same), changes=(*irrelevant, f'DATASET.ROOT={tests.folder}/moved', 'DATASET.NAME=mine'))
    metrics = read_json(tests.results / 'iter-8/metrics.json')
    assert metrics['weights'] == str(same) and sorted(path.name for path in tests.results.iterdir()) == ['iter-8']
    del metrics['ema'], metrics['data_sha256'], metrics['config']['TEST']['SCALES']
    write_json(tests.results / 'iter-8/metrics.json', metrics)
    tests.run('--weights', first)
    assert read_json(tests.results / 'iter-8/metrics.json')['weights'] == first
    assert not (tests.results / 'iter-8/unfinished.json').exists()


def test_repeated_on_a_full_disk(tests, capsys, monkeypatch):
    """The earlier results stay, whichever file there is no room for; the folder stays usable."""
    weights = tests.save('a/iter-8')
    tests.run('--weights', weights)
    before, written = tests.content(), []
    assert {Path(name).name for name in before} == {'results.json', 'metrics.json', 'report.html'}
    fsync = os.fsync
    for room in range(4):

        def full(descriptor: int, room: int = room) -> None:
            written.append(descriptor)
            if len(written) > room:
                raise OSError(errno.ENOSPC, 'No space left on device')
            fsync(descriptor)

        written.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, 'fsync', full)
            error = refused(capsys, experiment(engine.test, patch), '--weights', weights, '--set', *tests.settings)
        assert 'No space left on device' in error and tests.content().keys() == before.keys()
        assert all(read_json(Path(name)) for name in before if name.endswith('.json'))
    tests.run('--weights', weights)


def test_ensembles_of_the_same_names(tests, capsys):
    a, b, other = tests.save('one/a'), tests.save('one/b', 1), tests.save('two/b', 2)
    tests.run('--weights', a, b)
    names_all(tests.refused(capsys, '--weights', a, other), tests.results / 'ensemble.a+b', 'weights_sha256')
    tests.run('--weights', a, b)


def test_all_is_decided_before_the_first_prediction(tests, capsys):
    for name in ('out/iter-8', 'out/iter-16', 'a/iter-16'):
        tests.save(name, seed=len(name) + ord(name[0]))
    tests.run('--weights', str(tests.folder / 'a/iter-16.pth'))
    names_all(tests.refused(capsys, '-i', '8', '16'), 'iter-16 holds the results of another test')


def begun(tests: Trials, folder: Path) -> None:
    """As a process leaves it that is killed while it evaluates."""
    (folder / 'metrics.json').rename(folder / 'unfinished.json')


def begun_anew(tests: Trials, folder: Path) -> None:
    """As it is when another test was begun where the results had been removed."""
    (folder / 'metrics.json').rename(folder / 'unfinished.json')
    (folder / 'results.json').unlink()


LEFT = {
    'half-written': (begun, 'another test, which is not finished (TEST.FLIP True, now False)'),
    'only begun': (begun_anew, 'another test, which is not finished'),
    'untold': (lambda _, folder: (folder / 'metrics.json').unlink(), 'without metrics.json'),
    'damaged': (lambda _, folder: (folder / 'metrics.json').write_text('{'), 'metrics.json that does not identify'),
    'foreign': (lambda _, folder: (folder / 'metrics.json').write_text('[]'), 'metrics.json that does not identify'),
    'without weights': (
        lambda _, folder: (folder / 'metrics.json').write_text('{}'),
        'metrics.json that does not identify',
    ),
}


@pytest.mark.parametrize('case', LEFT.values(), ids=LEFT)
def test_what_a_killed_test_left(tests, capsys, case):
    """The same test takes it up where it is known to be the same; another never does."""
    leave, said = case
    weights = tests.save('iter-8')
    tests.run('--weights', weights)
    leave(tests, tests.results / 'iter-8')
    names_all(tests.refused(capsys, '--weights', weights, changes=('TEST.FLIP=False',)), said)
    if leave in (begun, begun_anew):
        tests.run('--weights', weights)
        assert not (tests.results / 'iter-8/unfinished.json').exists()
        assert read_json(tests.results / 'iter-8/metrics.json')['flip'] is True


def test_a_test_that_is_broken_off_leaves_nothing(tests, monkeypatch):
    weights = tests.save('iter-8')

    def interrupted(*_) -> None:
        assert (tests.results / 'iter-8/unfinished.json').exists()
        raise KeyboardInterrupt

    for there in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(engine, 'predict', interrupted)
            with pytest.raises(KeyboardInterrupt):
                tests.run('--weights', weights)
        assert (tests.results / 'iter-8').exists() == there
        assert not (tests.results / 'iter-8/unfinished.json').exists()
        tests.run('--weights', weights)


def test_the_same_test_may_run_twice_at_once(tmp_path):
    folder, one = tmp_path / 'iter-8', {'flip': True}
    with results.claimed(folder, one), results.claimed(folder, one):
        write_json(folder / 'metrics.json', one)
    assert [path.name for path in folder.iterdir()] == ['metrics.json']


@pytest.mark.parametrize('name', ['', '..', 'a/b'])
def test_a_name_that_is_none(tests, capsys, name):
    names_all(tests.refused(capsys, '--weights', tests.save('iter-8'), f'--name={name}'), f'--name {name}')
