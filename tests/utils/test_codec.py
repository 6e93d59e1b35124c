"""The codecs against places worked out by hand; that they cannot be mixed; what joints lose there and back."""

import ast

import numpy as np
import pytest
import torch

from cvpack import checkpoint
from cvpack.errors import InputError
from lib import engine
from lib.config import REPOSITORY, override
from lib.datasets.coco import CocoReader
from lib.datasets.description import COCO
from lib.deploy.saved import load_experiment
from lib.inference import build_estimator, predict
from lib.loader import train_samples
from lib.models.provenance import trained_codec
from lib.utils.codec import CODECS, aspect_ratio
from lib.utils.heatmap import decode, encode, mirror
from lib.utils.transforms import AugmentationSample, crop_matrix, fit, mirror_permutation
from tests.support.commands import call, experiment, names_all, refused
from tests.support.settings import load_config, tiny_settings

INPUT, MAP = (256, 192), (64, 48)
UNBIASED = ('dark', 'udp')


def gaussian(x: float, y: float, xx: float = 1.21, yy: float = 1.21, xy: float = 0.0) -> torch.Tensor:
    """A (1, 1, 64, 48) map of a Gaussian at a place in cells, with the given covariance."""
    rows, columns = np.mgrid[: MAP[0], : MAP[1]]
    offset = np.stack([columns - x, rows - y], axis=-1)
    inverse = np.linalg.inv([[xx, xy], [xy, yy]])
    return torch.from_numpy(255 * np.exp(-0.5 * np.einsum('hwi,ij,hwj->hw', offset, inverse, offset)))[None, None]


def place(maps: torch.Tensor, codec: str, kernel: int = 5) -> np.ndarray:
    """(x, y) of a decoded map, in pixels of a crop that is the image."""
    size = torch.tensor([[191.0, 255]] if codec == 'udp' else [[192.0, 256]], dtype=torch.float64)
    return decode(maps, size / 2, size / 200, INPUT, kernel, [0.25], codec)[0][0, 0].numpy()


# ---------------------------------------------------------------------------------------------------- decoding


@pytest.mark.parametrize('codec', UNBIASED)
def test_decoding_reads_between_cells(codec):
    """Within a hundredth of a cell. The standard codec goes from cell (10, 21) a quarter of the way to (11, 21)."""
    x, y = (10.3 * 191 / 47, 20.7 * 255 / 63) if codec == 'udp' else (10.3 * 4 + 2, 20.7 * 4 + 2)
    np.testing.assert_allclose(place(gaussian(10.3, 20.7), codec), [x, y], atol=0.04)
    assert place(gaussian(10.4, 20.7), 'standard').tolist() == [10.25 * 4 + 2, 21 * 4 + 2]


def test_the_step_follows_a_slanting_peak():
    """The mixed derivative counts: x and y of a tilted Gaussian cannot be read apart. Unblurred it is exact."""
    np.testing.assert_allclose(place(gaussian(10.4, 20.3, 4, 3, 2.5), 'dark', 1), [43.6, 83.2], atol=1e-6)


def test_decoding_at_the_border():
    """The middle of the outermost cells can be read; nothing beyond the map."""
    np.testing.assert_allclose(place(gaussian(0, 0), 'udp', 1), [0, 0], atol=1e-6)
    np.testing.assert_allclose(place(gaussian(47, 63), 'udp', 1), [191, 255], atol=1e-6)
    np.testing.assert_allclose(place(gaussian(0.25, 62.75), 'dark', 1), [3, 253], atol=1e-6)
    np.testing.assert_allclose(place(gaussian(-0.4, 63.4), 'dark', 1), [2, 254], atol=1e-6)


def test_where_there_is_no_peak_to_step_to():
    """Nothing, a ridge, noise of both signs: the highest cell, or a place next to it."""
    ridge = torch.zeros(1, 1, *MAP, dtype=torch.float64)
    assert place(ridge, 'dark').tolist() == [2, 2]
    ridge[..., 20, :] = 9
    assert place(ridge, 'dark', 1).tolist() == [2, 82]
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(300, 1, *MAP)))
    found = np.array([place(one[None], 'dark', 1) for one in noise])
    highest = noise.flatten(1).argmax(dim=1)
    cells = torch.stack([highest % MAP[1], highest // MAP[1]], dim=1).numpy()
    assert np.abs((found - 2) / 4 - cells).max() <= 2 and np.isfinite(found).all()


# ---------------------------------------------------------------------------------------------------- crops, targets


def test_udp_takes_the_box_to_the_outermost_pixels():
    """A box of 95.5 x 127.5 pixels is doubled: between the centres of 192 x 256 pixels lie 191 x 255."""
    scale = fit(np.array([95.5, 100]) / 200, 191 / 255)
    np.testing.assert_allclose(scale * 200, [95.5, 127.5])
    matrix = crop_matrix(np.array([100.0, 200]), scale, 0.0, INPUT, 'udp')
    for corner, expected in (((52.25, 136.25), (0, 0)), ((147.75, 263.75), (191, 255)), ((100, 200), (95.5, 127.5))):
        np.testing.assert_allclose(matrix @ [*corner, 1], expected, atol=1e-9)
    standard = crop_matrix(np.array([100.0, 200]), np.array([0.48, 0.64]), 0.0, INPUT)
    np.testing.assert_allclose(standard @ [52, 136, 1], [0, 0], atol=1e-9)
    np.testing.assert_allclose(standard @ [148, 264, 1], [192, 256], atol=1e-9)


def targets(x: float, y: float, codec: str) -> torch.Tensor:
    """(h, w): the target of kernel 5, whose Gaussian has a sigma of 1.1 cells."""
    return encode(torch.tensor([[[x, y]]]), torch.full((1, 1, 1), 2.0), INPUT, MAP, [5], codec)[0, 0, 0]


def test_targets_lie_where_the_joints_are():
    """dark: x / 4 - 1/2; udp: corner pixels are corner cells, and the crop's middle is the map's, between cells."""
    assert targets(42, 82, 'dark').argmax() == 20 * 48 + 10 and targets(42, 82, 'dark')[20, 10] == 255
    assert targets(42, 82, 'dark')[20, 13] == pytest.approx(255 * np.exp(-4.5 / 1.21), rel=1e-5)
    assert targets(0, 0, 'udp')[0, 0] == targets(191, 255, 'udp')[63, 47] == 255
    middle = targets(95.5, 127.5, 'udp')[31:33, 23:25]
    np.testing.assert_allclose(middle, 255 * np.exp(-0.25 / 1.21), rtol=1e-5)


def test_targets_of_joints_that_are_not_there():
    """A joint is on the map as far as half a cell beyond its outermost cells."""
    assert targets(0, 255.9, 'dark').max() > 200 and targets(-2, 257, 'udp').max() > 200
    for x, y in ((-0.1, 50), (192, 50), (50, 256.1)):
        assert targets(x, y, 'dark').max() == 0
    assert targets(-2.1, 50, 'udp').max() == targets(50, 257.1, 'udp').max() == 0


def samples(root, codec: str):
    cfg = load_config('mspn.2xstg.coco')
    override(cfg, [f'DATASET.ROOT={root}', f'CODEC={codec}'])
    return train_samples(cfg)


def sample(samples, index: int, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """The crop and its keypoints without augmentation, or mirrored."""
    synthetic_coco = samples.sample(index, AugmentationSample(np.ones(2), False, True, np.zeros(2), 1.0, 0.0, flip))
    return synthetic_coco['image'].astype(int), synthetic_coco['keypoints']


def test_udp_mirrors_exactly(synthetic_coco):
    """The crop of the mirrored image is the mirrored crop, joints included. The standard one is moved by a pixel."""
    udp, standard = samples(synthetic_coco, 'udp'), samples(synthetic_coco, 'standard')
    for index in range(4):
        (image, keypoints), (flipped, moved) = (sample(udp, index, flip) for flip in (False, True))
        assert (np.abs(flipped[:, ::-1] - image) <= 8).mean() > 0.999  # warpAffine rounds places to 1/32
        seen = moved[:, 2] > 0
        back = keypoints[udp.permutation][seen]
        np.testing.assert_allclose(191 - moved[seen, 0], back[:, 0], atol=1e-3)
        np.testing.assert_allclose(moved[seen, 1], back[:, 1], atol=1e-3)
        image, flipped = (sample(standard, index, flip)[0] for flip in (False, True))
        assert (np.abs(flipped[:, 1:][:, ::-1] - image[:, 1:]) <= 8).mean() > 0.999
        assert (np.abs(flipped[:, ::-1] - image) <= 8).mean() < 0.97


@pytest.mark.parametrize('codec', CODECS)
def test_joints_keep_their_fractions(synthetic_coco, codec):
    """In the crop that the published steps lead to, fitted to the codec's lengths; but for the standard codec."""
    training = samples(synthetic_coco, codec)
    records, found = training.records, sample(training, 0, False)[1]
    scale = fit(records.scale[0] * np.float32([1.05 * 1.6, 1.05 * 1.8]), 191 / 255 if codec == 'udp' else 0.75) * 0.8
    matrix = crop_matrix(records.center[0], scale, 0.0, INPUT, codec)
    expected = records.joints[0] @ matrix[:, :2].T + matrix[:, 2]
    expected = np.trunc(expected) if codec == 'standard' else expected
    np.testing.assert_allclose(found[:, :2], expected, atol=1e-3)


# ---------------------------------------------------------------------------------------------------- there and back


SURE = torch.zeros(1, 2)
# Places, in crop pixels, that stand for a normal distribution of deviation 2 about 0. A Sobol sequence has every 128th
# of it once on each axis: targets that leap from cell to cell are averaged evenly.
UNSURE = 2 * torch.special.ndtri(torch.quasirandom.SobolEngine(2).draw(128) + 1 / 256)


def predicted(joints: torch.Tensor, places: torch.Tensor, codec: str) -> torch.Tensor:
    """(N, K, 64, 48): what a network without error predicts of joints (N, K, 2), in crop pixels, that may as well be at
    any of the places about them: the mean of the finest targets, which has the least squared error."""
    visibility = torch.full((len(places), joints.shape[1], 1), 2.0)
    people = [encode(person + places[:, None], visibility, INPUT, MAP, [5], codec) for person in joints]
    return torch.stack([targets[:, 0].mean(dim=0) for targets in people])


def there_and_back(trained: str, decoded: str, flip: bool, places: torch.Tensor) -> tuple[float, float, float]:
    """What becomes of random joints that are trained under one codec and decoded by another or the same.

    Means of the distance in image pixels, of the distance in cells, and of how far to the right joints end, in cells.
    """
    rng = np.random.default_rng(0)
    center, scale = rng.uniform(100, 500, (12, 2)), rng.uniform(0.4, 2, (12, 1)) * (0.75, 1)
    scale = np.array([fit(one, aspect_ratio(INPUT, decoded)) for one in scale])
    matrix = np.array([crop_matrix(*box, 0.0, INPUT, decoded) for box in zip(center, scale)])
    joints = center[:, None] + 200 * scale[:, None] * rng.uniform(-0.4, 0.4, (12, 17, 2))
    in_crop = torch.from_numpy(joints @ matrix[..., :2].swapaxes(1, 2) + matrix[:, None, :, 2])
    maps = predicted(in_crop, places, trained)
    if flip:
        mirrored = predicted(torch.tensor([INPUT[1] - 1, 0]) + torch.tensor([-1, 1]) * in_crop, places, trained)
        maps = (maps + mirror(mirrored, torch.arange(17))) / 2
    found, _ = decode(maps, torch.from_numpy(center), torch.from_numpy(scale), INPUT, 5, [0.25], decoded)
    error = found.numpy() - joints
    cell = 200 * scale[:, :1] / CODECS[decoded].length(MAP[1])  # in image pixels
    distance = np.linalg.norm(error, axis=2)
    return distance.mean(), (distance / cell).mean(), (error[..., 0] / cell).mean()


@pytest.mark.parametrize('flip', [False, True])
def test_udp_brings_joints_back(flip):
    pixels, _, _ = there_and_back('udp', 'udp', flip, SURE)
    assert pixels < 0.02


def test_dark_brings_joints_back_but_for_the_flip_test():
    """Which puts them half a crop pixel to the right, as the module says, and nowhere else."""
    pixels, _, _ = there_and_back('dark', 'dark', False, SURE)
    assert pixels < 0.02
    _, cells, to_the_right = there_and_back('dark', 'dark', True, SURE)
    assert (cells, to_the_right) == pytest.approx((1 / 8, 1 / 8), abs=1e-3)


def test_what_the_standard_codec_loses():
    """Truncated to integer cells, a joint is lost by some 0.38 cells; Taylor steps correct that in blurred maps."""
    _, cells, to_the_right = there_and_back('standard', 'standard', False, SURE)
    assert 0.35 < cells < 0.5 and abs(to_the_right) < 0.05
    (_, shifted, _), (_, stepped, _) = (there_and_back('standard', by, False, UNSURE) for by in ('standard', 'dark'))
    assert stepped < 0.02 < 0.2 < shifted


class Perfect(torch.nn.Module):
    """A network that knows the joints (N, K, 2) of the only batch's crops, and swaps sides in the mirrored ones."""

    def __init__(self, joints: torch.Tensor, permutation: torch.Tensor) -> None:
        super().__init__()
        last = torch.tensor([63.0, 0])
        self.turns = [joints, (last - joints * torch.tensor([1, -1]))[:, permutation]]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        visibility = torch.full((*self.turns[0].shape[:2], 1), 2.0)
        return encode(self.turns.pop(0), visibility, (64, 64), (16, 16), [5], 'udp')[:, 0]


def test_a_perfect_network_finds_every_joint_under_udp(synthetic_coco, tmp_path):
    """Through the real loader, flip test and decoder."""
    cfg = load_config('mspn.2xstg.coco.udp')
    override(cfg, [*tiny_settings(synthetic_coco, tmp_path), 'DATALOADER.NUM_WORKERS=0'])
    records = CocoReader(COCO.at(synthetic_coco)).test_set('val', gt_boxes=True).records
    joints = np.random.default_rng(0).uniform(14, 49, (len(records), 17, 2))
    by_image = np.argsort(records.paths, kind='stable')  # the loader's order
    permutation = torch.from_numpy(mirror_permutation(17, cfg.DATASET.KEYPOINT.FLIP_PAIRS))
    device = torch.device('cpu')
    estimator = build_estimator(cfg, Perfect(torch.from_numpy(joints[by_image]), permutation), device)
    found, _ = predict(cfg, [estimator], records, device)
    for person, center, scale, own in zip(found, records.center, records.scale, joints):
        matrix = crop_matrix(center, fit(scale * np.float32([1.09, 1.135]), 1), 0.0, (64, 64), 'udp')
        np.testing.assert_allclose(person @ matrix[:, :2].T + matrix[:, 2], own, atol=0.02)


# ---------------------------------------------------------------------------------------------------- no mix


@pytest.mark.parametrize('codec', UNBIASED)
def test_experiments(codec):
    """They differ from the standard one in the codec, and in where they write."""
    cfg, standard = load_config(f'mspn.2xstg.coco.{codec}'), load_config('mspn.2xstg.coco')
    assert {key for key in cfg if cfg[key] != standard[key]} == {
        'CODEC',
        'EXPERIMENT',
        'OUTPUT_DIR',
        'TEST_DIR',
        'TENSORBOARD_DIR',
    }
    assert codec == cfg.CODEC


def test_lengths_do_not_mix(synthetic_coco, tmp_path, monkeypatch, capsys):
    """What one codec trained, another of other lengths refuses to test or to train on, in one line."""
    settings = [*tiny_settings(synthetic_coco, tmp_path / 'out'), 'SOLVER.MAX_ITER=1', 'DATALOADER.NUM_WORKERS=0']
    settings += ['SOLVER.BASE_LR=1e-4', 'MODEL.STAGE_NUM=1']
    call(monkeypatch, engine.train, '--set', *settings, name='mspn.2xstg.coco.udp')
    file = tmp_path / 'out/iter-8.pth'
    assert checkpoint.load(file)['config']['CODEC'] == 'udp'
    call(monkeypatch, engine.test, '-i', 'last', '--set', *settings, name='mspn.2xstg.coco.udp')
    capsys.readouterr()

    settings.append(f'OUTPUT_DIR={tmp_path / "another"}')
    test = experiment(engine.test, monkeypatch)
    names_all(refused(capsys, test, '--weights', file, '--set', *settings), file, "'udp'", "'standard'", 'CODEC=udp')
    train = experiment(engine.train, monkeypatch, 'mspn.2xstg.coco.dark')
    names_all(refused(capsys, train, '-c', file, '--set', *settings), file, 'CODEC udp')
    with pytest.raises(InputError, match="trained with CODEC 'udp'"):
        load_experiment(file, experiment=REPOSITORY / 'exps/mspn.2xstg.coco')

    # As published files are, which do not say.
    bare = tmp_path / 'bare.pth'
    torch.save({'model': checkpoint.load(file)['model']}, bare)
    test = experiment(engine.test, monkeypatch, 'mspn.2xstg.coco.udp')
    names_all(refused(capsys, test, '--weights', bare, '--set', *settings), bare, "'standard'", "'udp'")
    call(monkeypatch, engine.test, '--weights', str(bare), '--set', *settings, name='mspn.2xstg.coco.dark')
    assert 'was trained with CODEC standard; this test decodes with dark' in capsys.readouterr().out


@pytest.mark.parametrize('trained', ['', 'UDP', 7, ['udp'], None])
def test_a_codec_that_does_not_exist_is_refused(trained, tmp_path):
    torch.save({'config': {'CODEC': trained}, 'model': {}}, tmp_path / 'odd.pth')
    with pytest.raises(InputError, match='was trained with CODEC'):
        load_experiment(tmp_path / 'odd.pth', experiment=REPOSITORY / 'exps/mspn.2xstg.coco')


def test_files_that_name_no_codec_are_of_the_standard_one():
    assert {trained_codec(state) for state in ({}, {'config': {}}, {'config': None}, {'config': []})} == {'standard'}


def test_nobody_forgets_the_codec():
    """A call without it would read another codec's maps, or crop for it, in standard lengths."""
    takes = {'encode': 5, 'decode': 6, 'crop_matrix': 4, 'TrainSamples': 6, 'TestSamples': 4}  # arguments before it
    seen = set()
    for file in (REPOSITORY / 'lib').rglob('*.py'):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or 'benchmark' in file.parts:
                continue
            owner, name = ast.unparse(node.func).rpartition('.')[::2]
            if name in takes and owner in ('', 'heatmap', 'transforms'):
                seen.add(name)
                given = [*node.args[takes[name] :], *(word.value for word in node.keywords if word.arg == 'codec')]
                starred = any(isinstance(argument, ast.Starred) for argument in node.args)
                named = any(not isinstance(argument, ast.Constant) for argument in given)
                assert starred or named, f'{file}:{node.lineno} calls {name} without the codec'
    assert seen == set(takes)
