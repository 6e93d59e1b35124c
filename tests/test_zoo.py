"""The table of results: made of what tests wrote, and the README's is that."""

import json

import pytest
from conftest import load_config
from refusals import names_all, refused

from cvpack.files import read_json, write_json
from lib.config import to_plain
from lib.tools import zoo


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of two experiments, with nothing measured yet."""
    root = tmp_path / 'repository'
    (root / 'docs').mkdir(parents=True)
    write_json(
        root / zoo.ZOO, {'published': {'mspn.1xstg.coco': '71.5 AP, val', 'mspn.2xstg.mpii': '-'}, 'measured': []}
    )
    marks = '<!-- results: python -m lib.tools.zoo -->\n', '<!-- end of results -->'
    (root / zoo.README).write_text(f'# Before\n{marks[0]}old\n{marks[1]}\nAfter\n')
    monkeypatch.setattr(zoo, 'REPOSITORY', root)
    return root


def metrics(folder, experiment='mspn.1xstg.coco', figures=None, **changes):
    """A metrics.json as a test writes it."""
    content = {
        'metrics': {'AP': 0.7451, 'AP50': 0.9, 'AR': 0.8} if figures is None else figures,
        'experiment': experiment,
        'weights_sha256': 'abcdef0123456789',
        'split': 'val',
        'boxes': 104125,
        'boxes_from': 'detector',
        'git_revision': 'f00',
        'config': to_plain(load_config(experiment)),
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / 'metrics.json', content)
    return folder / 'metrics.json'


def test_the_readme_s_table_is_that_of_the_zoo():
    with pytest.raises(SystemExit) as stop:
        zoo.main(['--check'])
    assert stop.value.code == 0, 'run python -m lib.tools.zoo with the tests to show, or none'


def test_what_tests_measured_becomes_the_table(repository, tmp_path):
    mpii = metrics(tmp_path / 'b', 'mspn.2xstg.mpii', {'Head': 96.0, 'Mean': 90.06}, boxes_from='annotation', boxes=9)
    zoo.main(['--on', '8 V100', str(metrics(tmp_path / 'a')), str(mpii)])
    before, *rows, after = (repository / zoo.README).read_text().split('|---|---|---|---|---|\n')[1].partition('<!--')
    first, second = before.splitlines()
    expected = '74.5 AP, 90.0 AP50 | COCO val, 104,125 boxes of detectors; 8 V100 | `abcdef01` |'
    assert first == f'| mspn.1xstg.coco | 71.5 AP, val | {expected}'
    assert second == '| mspn.2xstg.mpii | - | 90.1 Mean | MPII val, 9 boxes of annotations; 8 V100 | `abcdef01` |'
    assert after.endswith('end of results -->\nAfter\n') and rows == ['<!--']


def test_a_newer_result_takes_the_place_of_one_of_its_kind(repository, tmp_path):
    zoo.main([str(metrics(tmp_path))])
    zoo.main([str(metrics(tmp_path, figures={'AP': 0.75}))])
    zoo.main([str(metrics(tmp_path, figures={'AP': 0.8}, boxes_from='annotation'))])
    measured = read_json(repository / zoo.ZOO)['measured']
    assert [one['figures']['AP'] for one in measured] == ['80.0', '75.0']
    with pytest.raises(SystemExit) as same:
        zoo.main(['--check'])
    (repository / zoo.README).write_text((repository / zoo.README).read_text().replace('75.0 AP', '76.0 AP'))
    with pytest.raises(SystemExit) as typed:
        zoo.main(['--check'])
    assert (same.value.code, typed.value.code) == (0, 1)


def test_ways_of_testing_are_told_apart(repository, tmp_path):
    dark = to_plain(load_config('mspn.2xstg.coco.dark'))
    dark['TEST'].update(FLIP=False, SCALES=[0.9, 1.0])
    ensemble = metrics(tmp_path / 'c', weights_sha256=['0123456789', '9876543210'], boxes=7)
    for path in (metrics(tmp_path / 'a'), metrics(tmp_path / 'b', config=dark), ensemble):
        zoo.main([str(path)])
    table = (repository / zoo.README).read_text()
    assert 'COCO val, 104,125 boxes of detectors, CODEC dark, FLIP False, SCALES [0.9, 1.0] | `abcdef01` |' in table
    assert 'COCO val, 7 boxes of detectors, ensemble of 2 | `01234567` `98765432` |' in table


def test_what_was_told_of_weights_stays(repository, tmp_path):
    zoo.main(['--on', '8 V100', str(metrics(tmp_path))])
    zoo.main([str(metrics(tmp_path))])
    assert read_json(repository / zoo.ZOO)['measured'][0]['on'] == '8 V100'
    zoo.main([str(metrics(tmp_path, weights_sha256='other weights'))])
    assert read_json(repository / zoo.ZOO)['measured'][0]['on'] == ''


def test_the_newest_test_of_every_experiment_is_found(repository, tmp_path, monkeypatch):
    monkeypatch.setenv('MSPN_HOME', str(tmp_path))
    outputs = tmp_path / 'model_logs' / 'somebody'
    for name in ('iter-8', 'iter-16'):
        metrics(outputs / 'mspn.1xstg.coco' / 'test_dir' / name, figures={'AP': 0.5 if name == 'iter-8' else 0.6})
    zoo.main([])
    assert [one['figures'] for one in read_json(repository / zoo.ZOO)['measured']] == [{'AP': '60.0'}]


REFUSED = {
    'no figures': ({'metrics': None}, 'is of a test without truth'),
    'an older file': ({'weights_sha256': zoo}, 'is no metrics.json of this version', 'test again'),
    'an experiment of elsewhere': ({'experiment': 'mine'}, 'mine is not listed in docs/zoo.json'),
}


@pytest.mark.parametrize('case', REFUSED.values(), ids=REFUSED)
def test_unfit_tests_are_refused(case, repository, tmp_path, capsys):
    changes, *pieces = case
    path = metrics(tmp_path)
    content = {**read_json(path), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not zoo}))
    names_all(refused(capsys, zoo.main, path), *pieces)
    assert read_json(repository / zoo.ZOO)['measured'] == []
