"""`prepare own` in this process, and what training and testing read of what it wrote."""

from pathlib import Path

import numpy as np
import pytest
from easydict import EasyDict

from lib.config import run_config
from lib.datasets.records import Records
from lib.loader import reader_of
from tests.support.exports import Animal, drawn
from tests.support.prepare import fail, run

# The image (told by its pixels), joints, visibility and box of each.
Drawn = list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]


def prepared(
    folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *options: object
) -> tuple[EasyDict, str]:
    """The configuration that `prepare own` writes, as a run reads it, and what the command prints."""
    patch.setenv('MSPN_HOME', str(folder / 'home'))
    printed = run(capsys, 'own', *options, '--name', 'farm', '--experiments', folder / 'exps')
    return run_config(folder / 'exps/mspn.2xstg.farm'), printed


def refused(folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *options: object) -> str:
    """The line with which `prepare own` ends; it has written nothing."""
    patch.setenv('MSPN_HOME', str(folder / 'home'))
    error = fail(capsys, 'own', *options, '--name', 'farm', '--experiments', folder / 'exps')
    assert not (folder / 'home').exists() and not (folder / 'exps').exists()
    return error


def read(cfg: EasyDict) -> Drawn:
    """All people that training and testing read: image (told by its pixels), joints, visibility, box; in order."""
    reader = reader_of(cfg)
    both = [reader.train_records(cfg.DATASET.KEYPOINT.LOAD_MIN_NUM), reader.test_set('val', gt_boxes=False).records]
    return sorted((row for records in both for row in rows(records)), key=lambda row: (row[0], row[3][0]))


def rows(records: Records) -> Drawn:
    boxes = np.concatenate([records.center - 100 * records.scale, 200 * records.scale], axis=1)
    joints, visibility = records.labels
    return [(drawn(records.path(i)), joints[i], visibility[i], boxes[i]) for i in range(len(records))]


def check(cfg: EasyDict, everybody: list[Animal], occluded: bool = True, around: bool = False) -> None:
    """Asserts that these are read.

    occluded: visibility 1 is told from 2; around: boxes are taken from the joints, with a margin
    """
    found, expected = read(cfg), sorted(everybody, key=lambda one: (one.image, one.box[0]))
    assert [row[0] for row in found] == [one.image for one in expected]
    for (_, joints, visibility, box), one in zip(found, expected):
        assert visibility.tolist() == [(v if occluded else 2 * (v > 0)) for v in one.keypoints[:, 2]]
        np.testing.assert_allclose(joints, one.keypoints[:, :2], atol=1e-3)
        if around:
            margins = (np.array(one.hull) - box) * [1, 1, -1, -1]
            assert (margins > 0).all() and (margins < max(one.hull[2:])).all(), (one.hull, box)
        else:
            np.testing.assert_allclose(box, one.box, atol=1e-3)
