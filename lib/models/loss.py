"""The loss: squared error at every stage and level, with online hard keypoint mining at the finest."""

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import nn

# The three coarser levels of a stage count a quarter each.
COARSE_LEVEL_WEIGHT = 0.25


class JointsL2Loss(nn.Module):
    """Mean squared error of heatmaps.

    topk: 0: the mean over all joints; the target of joints that are occluded or unlabelled is empty, as published
          k: online hard keypoint mining (Chen et al., CVPR 2018): the mean over the k joints of each sample
             with the largest error; that of unlabelled joints is 0
    """

    def __init__(self, topk: int = 0) -> None:
        super().__init__()
        self.topk = topk

    def forward(self, output: torch.Tensor, visibility: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """output, label (N, K, h, w); visibility (N, K, 1), 0 unlabelled, 1 occluded, 2 visible -> scalar."""
        label = label.to(output.dtype)  # torch 2.4 has no gradient for mixed dtypes
        if self.topk == 0:
            return F.mse_loss(output, label * (visibility > 1).unsqueeze(-1))
        joint_errors = F.mse_loss(output, label, reduction='none').mean(dim=(2, 3))
        joint_errors = joint_errors * (visibility > 0).squeeze(-1)
        return joint_errors.topk(self.topk, dim=1).values.mean()


class CoarseToFineLoss(nn.Module):
    """Sum over stages and levels of the joints' squared error (paper, section 3.3).

    ohkm_topk:      joints mined at the finest level of every stage; 0: no mining
    coarse_to_fine: the last stage's targets are one kernel sharper than those of the other stages
    """

    def __init__(self, ohkm_topk: int, coarse_to_fine: bool) -> None:
        super().__init__()
        self.coarse_loss = JointsL2Loss()
        self.fine_loss = JointsL2Loss(ohkm_topk)
        self.coarse_to_fine = coarse_to_fine

    def forward(
        self, outputs: list[list[torch.Tensor]], visibility: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The total loss as 'total_loss', and every stage's contribution as 'stageS_loss'.

        outputs:    S stages x 4 levels of (N, K, h, w), coarse to fine
        visibility: (N, K, 1), 0 unlabelled, 1 occluded, 2 visible
        labels:     (N, 5, K, h, w), peaks at 255, widest kernel first
        """
        losses = {}
        for stage, levels in enumerate(outputs):
            sharper = int(self.coarse_to_fine and stage == len(outputs) - 1)
            targets = labels.unbind(1)[sharper:]
            coarse = sum(self.coarse_loss(levels[j], visibility, targets[j]) for j in range(3))
            fine = self.fine_loss(levels[3], visibility, targets[3])
            losses[f'stage{stage}_loss'] = COARSE_LEVEL_WEIGHT * coarse + fine
        return {'total_loss': sum(losses.values()), **losses}


def build_loss(cfg: EasyDict) -> CoarseToFineLoss:
    """The loss that a configuration describes."""
    return CoarseToFineLoss(cfg.LOSS.TOPK if cfg.LOSS.OHKM else 0, cfg.LOSS.COARSE_TO_FINE)
