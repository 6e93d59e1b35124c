"""Drawn people: poses, clothes, and the parts that a body is painted from.

A body is a rig of 3-D landmarks in body heights: to the person's left, up, forwards from between the hips.
Its parts are convex hulls of spheres on landmarks. Seen from afar a sphere is a circle and a hull of spheres
the hull of their circles, so the parts, painted far to near, give a view from any side.
"""

import colorsys
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from lib.datasets.description import COCO

# fmt: off
SIDES = {'left': 1, 'right': -1}

# Degrees forwards, sideways and at the elbow, from and to; where the forearm bends to: inwards, up, forwards.
ARMS = {
    'hang': ((-20, 25), (6, 24), (5, 50), (0.3, 0, 1)),
    'on hip': ((-25, 0), (35, 55), (80, 105), (1, 0, 0.4)),
    'raise': ((-25, 0), (125, 165), (5, 60), (0.6, 0.6, 0.3)),
    'wave': ((0, 20), (65, 95), (60, 115), (0, 1, 0.2)),
    'spread': ((-10, 15), (65, 100), (0, 40), (0, 0.3, 1)),
    'reach': ((45, 95), (5, 30), (5, 70), (0.3, 1, 0)),
}
ARM_SHARES = (0.38, 0.1, 0.16, 0.16, 0.1, 0.1)
# Degrees forwards of the leading and the other thigh, sideways, at the knee of the leading and the other leg.
LEGS = {
    'stand': ((-4, 8), (-4, 8), (2, 9), (0, 8), (0, 8)),
    'walk': ((15, 38), (-28, -8), (1, 7), (3, 25), (8, 40)),
    'astride': ((-5, 15), (-5, 15), (14, 30), (0, 25), (0, 25)),
    'knee up': ((55, 95), (-5, 5), (2, 12), (60, 110), (0, 10)),
    'squat': ((35, 65), (35, 65), (12, 28), (55, 85), (55, 85)),
    'sit': ((72, 88), (72, 88), (4, 16), (65, 95), (65, 95)),
}
LEG_SHARES = (0.36, 0.26, 0.16, 0.08, 0.05, 0.09)
# Points of the left half of the head, in units of its radius: left, up, forwards.
FACE = {
    'skull': (0, 0.12, 0), 'chin': (0, -0.62, 0.22), 'nose': (0, -0.18, 1.06), 'bun': (0, 1.05, -0.75),
    'left_eye': (0.38, 0.1, 0.9), 'left_white': (0.38, 0.1, 0.8), 'left_lip': (0.2, -0.6, 0.84),
    'left_brow': (0.56, 0.38, 0.9), 'left_inner_brow': (0.24, 0.42, 0.95), 'left_ear': (1.07, -0.08, -0.04),
    'left_cap': (0.2, 0.36, -0.34), 'left_temple': (0.64, 0.5, 0.38), 'left_parting': (0.3, 0.86, 0.3),
    'left_lock': (0.45, -0.1, -0.5), 'left_tip': (0.4, -1.4, -0.55),
    'left_crown': (0.34, 0.66, -0.06), 'left_brim': (0.6, 0.58, 0.66), 'left_peak': (0.36, 0.56, 1.3),
}
# What a person may wear, then radii at landmarks in body heights; {} stands for each side. A part shows the
# joints that it is built on. Later parts win ties in depth.
BODY_PARTS = (
    ('seat', {'left_seat': 0.05, 'right_seat': 0.05, 'left_stool': 0.05, 'right_stool': 0.05}),
    ('shin', {'{}_knee': 0.043, '{}_calf': 0.041, '{}_ankle': 0.027}),
    ('shoe', {'{}_ankle': 0.027, '{}_heel': 0.024, '{}_toe': 0.02}),
    ('thigh', {'{}_hip': 0.062, '{}_knee': 0.044}),
    ('trousers', {'left_hip': 0.062, 'right_hip': 0.062, 'belly': 0.055}),
    ('neck', {'collar': 0.034, 'nape': 0.032}),
    ('shirt', {'left_hip': 0.056, 'right_hip': 0.056, 'left_shoulder': 0.044, 'right_shoulder': 0.044}),
    ('skirt', {'left_hip': 0.062, 'right_hip': 0.062, 'left_hem': 0.06, 'right_hem': 0.06, 'belly': 0.055}),
    ('bag', {'left_pack': 0.035, 'right_pack': 0.035, 'left_pack_low': 0.045, 'right_pack_low': 0.045}),
    ('arm', {'{}_shoulder': 0.038, '{}_elbow': 0.031}),
    ('sleeve', {'{}_shoulder': 0.042, '{}_biceps': 0.04}),
    ('forearm', {'{}_elbow': 0.031, '{}_wrist': 0.023}),
    ('skin', {'{}_wrist': 0.023, '{}_hand': 0.027}),
    ('watch', {'left_wrist': 0.027}),
)
# The same, in radii of the head.
HEAD_PARTS = (
    ('hair', {'left_cap': 0.9, 'right_cap': 0.9}),
    ('bun', {'bun': 0.42}),
    ('long hair', {'left_lock': 0.6, 'right_lock': 0.6, 'left_tip': 0.5, 'right_tip': 0.5}),
    ('skin', {'{}_ear': 0.24}),
    ('skin', {'skull': 0.96, 'chin': 0.62}),
    ('fringe', {'left_temple': 0.28, 'right_temple': 0.28, 'left_parting': 0.3, 'right_parting': 0.3}),
    ('hat', {'left_crown': 0.72, 'right_crown': 0.72, 'left_brim': 0.2, 'right_brim': 0.2}),
    ('hat', {'left_peak': 0.12, 'right_peak': 0.12, 'left_brim': 0.14, 'right_brim': 0.14}),
    ('white', {'{}_white': 0.19}),
    ('pupil', {'{}_eye': 0.13}),
    ('brow', {'{}_brow': 0.05, '{}_inner_brow': 0.05}),
    ('nose', {'nose': 0.15}),
    ('lips', {'left_lip': 0.07, 'right_lip': 0.07}),
)
# Which of a cloth's two colours shows where, by the parity of row and column: neither odd, row, column, both.
PATTERNS = {'plain': (0, 0, 0, 0), 'hoops': (0, 1, 0, 1), 'stripes': (0, 0, 1, 1), 'checks': (0, 1, 1, 0)}
# How many wear what not everybody wears; a seat comes with sitting, a fringe without a hat.
SHARES = {
    'bare arms': 0.55, 'bare shins': 0.35, 'skirt': 0.15, 'watch': 0.8, 'bag': 0.12, 'seat': 0,
    'hat': 0.15, 'bun': 0.12, 'long hair': 0.3, 'fringe': 0,
}
PROPS = {'seat', 'bag'}
# BGR.
SKINS = ((188, 210, 246), (160, 190, 236), (122, 160, 218), (92, 128, 190), (66, 96, 150), (48, 68, 108))
HAIRS = ((28, 26, 30), (30, 42, 66), (44, 72, 120), (92, 150, 206), (46, 82, 168), (150, 150, 156))
# fmt: on


class Part(NamedTuple):
    """A convex hull of spheres.

    spheres: (n, 4) x to the right, y down, z towards the viewer, radius; one unit for all
    colours: (4, 3) BGR, 0 to 255: the colour where a pattern has (neither, row, column, both) odd
    is_body: whether it counts for its person's area and box
    shows: numbers of the joints that are in sight where this part is on top
    """

    spheres: np.ndarray
    colours: np.ndarray
    is_body: bool = False
    shows: frozenset[int] = frozenset()


class Figure(NamedTuple):
    """A person: the parts from far to near, and the joints (17, 2) in the parts' unit."""

    parts: list[Part]
    joints: np.ndarray


def random_colour(rng: np.random.Generator, hue: tuple, saturation: tuple, value: tuple) -> np.ndarray:
    """BGR (3,), 0 to 255, with hue, saturation and value between two bounds each, in [0, 1]."""
    rgb = colorsys.hsv_to_rgb(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))
    return 255 * np.array(rgb[::-1])


def plain(colour: ArrayLike) -> np.ndarray:
    """Colours (4, 3) of a part without a pattern."""
    return np.tile(np.asarray(colour, float), (4, 1))


def _choose(rng: np.random.Generator, options: dict, shares: tuple | None = None) -> str:
    return tuple(options)[rng.choice(len(options), p=shares)]


def _rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
    return Rotation.from_euler('ZXY', (roll, pitch, yaw), degrees=True).as_matrix()


def _limb(sign: int, forwards: float, sideways: float) -> np.ndarray:
    """Unit vector (3,), straight down at 0 and 0 degrees."""
    forwards, sideways = np.radians(forwards), np.radians(sideways)
    drop = np.cos(sideways)
    return np.array((sign * np.sin(sideways), -drop * np.cos(forwards), drop * np.sin(forwards)))


def _arm(rng: np.random.Generator, sign: int, action: str) -> dict[str, np.ndarray]:
    """Landmarks of one side of the upper body, as it stands upright."""
    forwards, sideways, elbow, (inwards, up, front) = ARMS[action]
    upper = _limb(sign, rng.uniform(*forwards), rng.uniform(*sideways))
    bend = np.array((-sign * inwards, up, front)) + rng.normal(0, 0.15, 3)
    bend -= bend @ upper * upper
    angle = np.radians(rng.uniform(*elbow))
    lower = np.cos(angle) * upper + np.sin(angle) * bend / np.linalg.norm(bend)
    shoulder = np.array((sign * 0.107, 0.285, 0))
    wrist = shoulder + 0.16 * upper + 0.145 * lower
    points = {'shoulder': shoulder, 'biceps': shoulder + 0.085 * upper, 'elbow': shoulder + 0.16 * upper}
    points |= {'wrist': wrist, 'hand': wrist + 0.04 * lower}
    return points | {'pack': (sign * 0.05, 0.25, -0.075), 'pack_low': (sign * 0.05, 0.08, -0.085)}


def _leg(rng: np.random.Generator, sign: int, action: str, leads: bool) -> dict[str, np.ndarray]:
    """Landmarks of one side of the lower body."""
    lead, other, sideways, lead_knee, other_knee = LEGS[action]
    thigh, aside = rng.uniform(*(lead if leads else other)), rng.uniform(*sideways)
    shin = thigh - rng.uniform(*(lead_knee if leads else other_knee))
    hip = np.array((sign * 0.062, 0, 0))
    knee = hip + 0.245 * _limb(sign, thigh, aside)
    ankle = knee + 0.245 * _limb(sign, shin, aside)
    foot = _limb(sign, shin / 2 + 90, rng.uniform(5, 30))
    points = {'hip': hip, 'knee': knee, 'ankle': ankle, 'hem': 0.4 * hip + 0.6 * knee}
    points |= {'calf': 0.65 * knee + 0.35 * ankle - 0.008 * foot}
    points |= {'heel': ankle - 0.02 * foot - (0, 0.022, 0), 'toe': ankle + 0.08 * foot - (0, 0.026, 0)}
    points |= {'seat': np.array((sign * 0.08, -0.11, -0.03)), 'stool': np.array((sign * 0.07, -0.24, -0.03))}
    return points


def _pose(rng: np.random.Generator, legs: str, head_size: float) -> dict[str, np.ndarray]:
    """Landmarks (3,) of one body."""
    upper, lower = {'collar': (0, 0.305, 0), 'nape': (0, 0.345, 0.006), 'belly': (0, 0.07, 0)}, {}
    both, leading = _choose(rng, ARMS, ARM_SHARES), _choose(rng, SIDES)
    for side, sign in SIDES.items():
        action = both if rng.random() < 0.6 else _choose(rng, ARMS, ARM_SHARES)
        upper |= {f'{side}_{name}': point for name, point in _arm(rng, sign, action).items()}
        lower |= {f'{side}_{name}': point for name, point in _leg(rng, sign, legs, side == leading).items()}
    bent = legs in ('squat', 'sit') or rng.random() < 0.1
    lean, bend, twist = rng.normal(0, 7), rng.uniform(10, 45) if bent else rng.normal(3, 5), rng.normal(0, 8)
    chest = _rotation(lean, bend, twist)
    points = lower | {name: chest @ point for name, point in upper.items()}
    head = _rotation(lean / 2 + rng.normal(0, 6), bend / 2 + rng.normal(0, 6), twist + rng.normal(0, 15))
    middle = points['nape'] + head @ (0, 0.78 * head_size, 0.012)
    face = FACE | {name.replace('left', 'right'): (-x, y, z) for name, (x, y, z) in FACE.items()}
    return points | {name: middle + head_size * (head @ point) for name, point in face.items()}


def _cloth(rng: np.random.Generator, patterned: float, value: tuple) -> np.ndarray:
    """Colours (4, 3), with a pattern at the given probability."""
    pattern = _choose(rng, PATTERNS) if rng.random() < patterned else 'plain'
    first, second = ((0.25, 0.8), value), ((0, 0.4), (0.7, 1))
    pair = np.stack([random_colour(rng, (0, 1), *bounds) for bounds in (first, second)])
    return pair[list(PATTERNS[pattern])]


def _wardrobe(rng: np.random.Generator, sits: bool) -> dict[str, np.ndarray]:
    """Colours (4, 3) of all that one person has."""
    worn = {key for key, share in SHARES.items() if rng.random() < share}
    worn = (worn - {'bun'} if 'hat' in worn else worn | {'fringe'}) | ({'seat'} if sits else set())
    skin, hair = (plain(rng.choice(tones)) * rng.uniform(0.92, 1.05) for tones in (SKINS, HAIRS))
    shirt, trousers = _cloth(rng, 0.45, (0.45, 1)), _cloth(rng, 0.1, (0.2, 0.75))
    arm = skin if 'bare arms' in worn else shirt
    # fmt: off
    look = {
        'skin': skin, 'neck': skin * 0.93, 'nose': skin * (0.78, 0.8, 0.92), 'lips': skin * (0.62, 0.6, 0.84),
        'white': plain((250, 250, 250)), 'pupil': plain((45, 35, 35)), 'watch': plain((40, 40, 220)),
        'hair': hair, 'brow': hair * 0.8, 'fringe': hair, 'long hair': hair, 'bun': hair,
        'shirt': shirt, 'sleeve': shirt, 'arm': arm, 'forearm': arm, 'trousers': trousers, 'skirt': trousers,
        'thigh': skin if 'skirt' in worn else trousers, 'shin': skin if 'bare shins' in worn else trousers,
        'shoe': _cloth(rng, 0, (0.15, 0.95)), 'hat': _cloth(rng, 0.1, (0.3, 0.9)),
        'bag': _cloth(rng, 0.2, (0.3, 0.8)), 'seat': _cloth(rng, 0.2, (0.3, 0.7)),
    }
    # fmt: on
    return {key: colours for key, colours in look.items() if key in worn or key not in SHARES}


def _shown(names: list[str], landmarks: dict) -> frozenset[int]:
    """Joints that a part is built on, less the far one of a pair that it spans and that is seen edge on."""
    shown = set()
    for name in set(names) & set(COCO.joint_names):
        twin = name.replace('left', 'right') if 'left' in name else name.replace('right', 'left')
        x, y, depth = landmarks[twin] - landmarks[name] if twin in names else (0, 0, 0)
        if depth <= np.hypot(x, y):
            shown.add(COCO.joint_names.index(name))
    return frozenset(shown)


def draw_figure(rng: np.random.Generator, yaw: float) -> Figure:
    """A random person, in body heights about (0, 0); facing the viewer at a yaw of 0 degrees, right at 90."""
    legs = _choose(rng, LEGS, LEG_SHARES)
    head_size, build = rng.uniform(0.07, 0.088), rng.uniform(0.95, 1.2)
    camera = _rotation(rng.uniform(-30, 30) if rng.random() < 0.12 else rng.normal(0, 4), rng.uniform(0, 14), yaw)
    landmarks = {name: camera @ point * (1, -1, 1) for name, point in _pose(rng, legs, head_size).items()}
    look, parts = _wardrobe(rng, legs == 'sit'), []
    for table, unit in ((BODY_PARTS, build), (HEAD_PARTS, head_size)):
        for key, radii in table:
            sides = SIDES if '{}' in next(iter(radii)) else ('',)
            for names in ([name.format(side) for name in radii] for side in sides if key in look):
                spheres = np.array([(*landmarks[name], unit * r) for name, r in zip(names, radii.values())])
                spheres[:, 2] += 0.06 * (key == 'skirt')  # which hangs over the thighs
                parts.append(Part(spheres, look[key], key not in PROPS, _shown(names, landmarks)))
    parts.sort(key=lambda part: part.spheres[:, 2].mean())
    return Figure(parts, np.array([landmarks[name][:2] for name in COCO.joint_names]))
