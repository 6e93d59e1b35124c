"""Skeletons land where the joints are, in the colour of their side."""

import numpy as np

from lib.utils.visualize import LEFT, MIDDLE, PANEL_HEIGHT, RIGHT, contact_sheet, draw_skeleton, side_by_side

NAMES = ('left_hip', 'left_knee', 'right_hip', 'right_knee', 'nose')
SKELETON = ((0, 1), (2, 3), (0, 2))


def test_limbs_and_joints():
    image = np.zeros((120, 120, 3), np.uint8)
    keypoints = np.array([[20, 20], [20, 100], [100, 20], [100, 100], [60, 60]], float)
    draw_skeleton(image, keypoints, np.array([True, True, True, False, True]), SKELETON, NAMES)
    for (x, y), color in {(20, 60): LEFT, (60, 20): MIDDLE, (60, 60): MIDDLE, (100, 20): RIGHT}.items():
        np.testing.assert_allclose(image[y, x], color, atol=25)  # lines are anti-aliased
    assert not image[60, 100].any() and not image[100, 100].any()  # the knee is not visible, nor its limb


def test_nobody_visible_draws_nothing():
    image = np.zeros((50, 50, 3), np.uint8)
    draw_skeleton(image, np.full((5, 2), 25.0), np.zeros(5, bool), SKELETON, NAMES)
    assert not image.any()


def test_sheets():
    panels = [side_by_side(*(np.full((size, 60, 3), shade, np.uint8) for shade in (10, 200))) for size in (40, 80, 90)]
    assert {panel.shape[0] for panel in panels} == {PANEL_HEIGHT}
    assert panels[0][5, 5, 0] == 10 and panels[0][5, -5, 0] == 200
    sheet = contact_sheet(panels)
    assert sheet.shape[0] > 2 * PANEL_HEIGHT
    assert tuple(sheet[-10, -1]) == (255, 255, 255)
