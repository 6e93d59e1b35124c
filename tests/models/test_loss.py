"""The loss against hand-computed cases; its golden value is in test_network.py."""

import pytest
import torch

from lib.models.loss import CoarseToFineLoss, JointsL2Loss


def test_unseen_joints_have_an_empty_target():
    output, label = torch.ones(1, 3, 2, 2), torch.full((1, 3, 2, 2), 3.0)
    visibility = torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1)
    # (1 - 0)^2 for the first two, (1 - 3)^2 for the third.
    assert JointsL2Loss()(output, visibility, label).item() == pytest.approx((1 + 1 + 4) / 3)


def test_mining_takes_the_hardest_labelled_joints():
    output = torch.zeros(1, 4, 2, 2)
    label = torch.tensor([1.0, 2.0, 3.0, 9.0]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    visibility = torch.tensor([2.0, 1.0, 2.0, 0.0]).view(1, 4, 1)
    assert JointsL2Loss(topk=2)(output, visibility, label).item() == pytest.approx((9 + 4) / 2)
    # The unlabelled joint takes a place with an error of zero once the others are used up.
    assert JointsL2Loss(topk=4)(output, visibility, label).item() == pytest.approx((9 + 4 + 1 + 0) / 4)


@pytest.mark.parametrize('coarse_to_fine', [False, True])
def test_levels_and_stages(coarse_to_fine):
    """Each level meets its own label; the last stage's are one kernel sharper when coarse-to-fine."""
    labels = torch.arange(5.0).view(1, 5, 1, 1, 1).expand(1, 5, 2, 4, 4)
    outputs = [[torch.zeros(1, 2, 4, 4) for _ in range(4)] for _ in range(2)]
    visibility = torch.full((1, 2, 1), 2.0)
    losses = CoarseToFineLoss(0, coarse_to_fine)(outputs, visibility, labels)
    first = (0 + 1 + 4) / 4 + 9
    last = (1 + 4 + 9) / 4 + 16 if coarse_to_fine else first
    assert losses['stage0_loss'].item() == pytest.approx(first)
    assert losses['stage1_loss'].item() == pytest.approx(last)
    assert losses['total_loss'].item() == pytest.approx(first + last)
