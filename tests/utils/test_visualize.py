"""Skeletons land where the joints are, in the colour of their side."""

import numpy as np
import pytest

from lib.utils.visualize import (
    LEFT,
    MIDDLE,
    PANEL_HEIGHT,
    RIGHT,
    contact_sheet,
    draw_skeleton,
    limb_colours,
    side_by_side,
)

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


def test_limbs_in_colours_of_their_own():
    image = np.zeros((120, 120, 3), np.uint8)
    keypoints = np.array([[20, 20], [20, 100], [100, 20], [100, 100], [60, 60]], float)
    colours = limb_colours(3)
    assert len(set(colours)) == 3
    draw_skeleton(image, keypoints, np.ones(5, bool), SKELETON, NAMES, colours)
    for (x, y), colour in {(20, 60): colours[0], (100, 60): colours[1], (60, 20): colours[2]}.items():
        np.testing.assert_allclose(image[y, x], colour, atol=25)
    np.testing.assert_allclose(image[20, 20], colours[0])  # of the first limb that ends there
    np.testing.assert_allclose(image[60, 60], MIDDLE)  # of no limb


def test_the_less_sure_the_fainter():
    """A limb's opacity is its ends' mean; where nothing is drawn nothing changes."""
    white = np.full((120, 120, 3), 255, np.uint8)
    keypoints = np.array([[20, 20], [20, 100], [100, 20], [100, 100], [60, 60]], float)
    solid, faint = white.copy(), white.copy()
    draw_skeleton(solid, keypoints, np.ones(5, bool), SKELETON, NAMES)
    draw_skeleton(faint, keypoints, np.ones(5, bool), SKELETON, NAMES, opacity=np.array([0.5, 0.5, 0.2, 0.8, 0]))
    for (x, y), opacity in {(20, 60): 0.5, (100, 60): 0.5, (60, 20): 0.35, (100, 20): 0.2, (60, 60): 0}.items():
        synthetic_coco = 255 - solid[y, x].astype(float)
        np.testing.assert_allclose(255 - faint[y, x].astype(float), opacity * synthetic_coco, atol=6)
    untouched = (solid == white).all(axis=2)
    assert untouched.mean() > 0.8 and (faint[untouched] == 255).all()


def test_large_people_are_drawn_thicker():
    widths = []
    for size in (50, 500):
        image = np.zeros((600, 100, 3), np.uint8)
        keypoints = np.array([[50, 10], [50, 10 + size], [0, 0], [0, 0], [0, 0]], float)
        draw_skeleton(image, keypoints, np.array([True, True, False, False, False]), SKELETON, NAMES)
        widths.append(image[10 + size // 2].any(axis=1).sum())
    assert widths[0] <= 3 and widths[1] >= 3 * widths[0] - 2


@pytest.mark.parametrize('place', [(-900, 20), (20, -900), (900, 20), (1e12, -1e12)])
def test_people_outside_the_image(place):
    image = np.zeros((50, 60, 3), np.uint8)
    draw_skeleton(image, np.random.default_rng(0).uniform(0, 40, (5, 2)) + place, np.ones(5, bool), SKELETON, NAMES)
    assert not image.any()


def test_people_cut_by_the_border():
    """What is in view of them is drawn as on a larger image."""
    keypoints = np.array([[-15, 20], [30, 70], [60, -12], [25, 25], [40, 90]], float)
    image, larger = np.zeros((50, 60, 3), np.uint8), np.zeros((150, 160, 3), np.uint8)
    draw_skeleton(image, keypoints, np.ones(5, bool), SKELETON, NAMES)
    draw_skeleton(larger, keypoints + 30, np.ones(5, bool), SKELETON, NAMES)
    assert image.any()
    assert np.abs(image.astype(int) - larger[30:80, 30:90]).mean() < 1


def test_a_joint_far_away():
    """Limbs lead out of the image towards it."""
    image = np.zeros((50, 60, 3), np.uint8)
    keypoints = np.array([[20, 20], [1e12, 20], [20, -1e12], [-1e7, 30], [0, 0]], float)
    draw_skeleton(image, keypoints, np.array([True, True, True, True, False]), SKELETON, NAMES)
    assert image[20, 59].any() and image[0, 20].any()
