"""From records of people to samples: the crop as uint8, the joints, the visibility.

Normalisation and target heatmaps are computed in batches on the training device, so a sample is small: 147 kB at
256x192.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from lib.datasets.image_files import Decoded, read_image, read_reduced
from lib.datasets.records import Records
from lib.utils.codec import CODECS, aspect_ratio
from lib.utils.pixels import crop, jitter_colors
from lib.utils.transforms import (
    PIXELS_PER_SCALE,
    Augmentation,
    AugmentationSample,
    augment_box,
    crop_matrix,
    fit,
    mirror_matrix,
    mirror_permutation,
    sample_augmentation,
)
from lib.utils.views import View


def crop_person(
    image: np.ndarray,
    center: np.ndarray,
    scale: np.ndarray,
    extension: Sequence[float],
    input_shape: Sequence[int],
    codec: str = 'standard',
) -> dict[str, np.ndarray]:
    """A test sample: 'image', the person's crop (H, W, 3) uint8 BGR; 'center', 'scale' (2,) float32, where it was cut.

    image:         the full image, (h, w, 3) uint8 BGR
    center, scale: (2,) float32, of the box
    extension:     ratios by which the box grows in x and y
    """
    scale = fit(scale * np.array([1 + ratio for ratio in extension], np.float32), aspect_ratio(input_shape, codec))
    matrix = crop_matrix(center, scale, 0.0, input_shape, codec)
    return {'image': crop(image, matrix, input_shape), 'center': center, 'scale': scale}


def crop_view(image: np.ndarray, center: np.ndarray, scale: np.ndarray, view: View, codec: str) -> np.ndarray:
    """(H, W, 3) uint8: another view of a person; center and scale are those that crop_person returned."""
    matrix = crop_matrix(center, scale * np.float32(view.zoom), 0.0, view.input_shape, codec)
    return crop(image, matrix, view.input_shape)


class TrainSamples(Dataset):
    """Training samples, dictionaries: image (H, W, 3) uint8 BGR; keypoints (K, 3) float32: x and y in crop pixels,
    visibility. Only two arrays, because each one costs a transfer from worker to trainer.

    Joints that are integers in the file, as in COCO, are truncated towards zero in the crop too, before the check that
    they lie inside it, as in the published code. Not with subpixel codecs, which would lose half a pixel.

    reduced_jpeg: decode a JPEG at no higher resolution than the crop needs; the keypoints are the same
    """

    def __init__(
        self,
        records: Records,
        augmentation: Augmentation,
        flip_pairs: Sequence[Sequence[int]],
        upper_body_ids: Sequence[int],
        input_shape: Sequence[int],
        seed: int,
        codec: str = 'standard',
        reduced_jpeg: bool = False,
    ) -> None:
        self.records = records
        self.augmentation = augmentation
        self.permutation = mirror_permutation(records.labels[0].shape[1], flip_pairs)
        self.upper_body_ids = upper_body_ids
        self.input_shape = input_shape
        self.seed = seed
        self.codec = codec
        self.reduced_jpeg = reduced_jpeg

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, np.ndarray]:
        """key: (index of the record, position in the run); the position seeds the augmentation."""
        index, position = key
        rng = np.random.default_rng([self.seed, position])
        return self.sample(index, sample_augmentation(rng, self.augmentation))

    def sample(self, index: int, sampled: AugmentationSample) -> dict[str, np.ndarray]:
        """The sample of a record under a given augmentation."""
        records, (height, width) = self.records, self.input_shape
        joints, visibility = (values[index] for values in records.labels)
        center, scale = self.box(index, sampled)
        image = self._image(index, scale)
        if sampled.flip:
            center = np.array([image.width - center[0] - 1, center[1]])
            joints, visibility = joints[self.permutation], visibility[self.permutation]
        matrix = crop_matrix(center, scale, sampled.rotation, self.input_shape, self.codec)
        if sampled.flip:  # a crop of the flipped image, which itself is never computed
            matrix = matrix @ mirror_matrix(image.width)
        joints = joints @ matrix[:, :2].T + matrix[:, 2]
        if records.integer is not None and records.integer[index] and not CODECS[self.codec].subpixel:
            joints = np.trunc(joints)
        inside = ((joints >= 0) & (joints <= [width - 1, height - 1])).all(axis=1)
        pixels = crop(image.pixels, matrix @ image.to_full, self.input_shape)
        return {
            'image': jitter_colors(pixels, sampled.color) if (sampled.color != 1).any() else pixels,
            'keypoints': np.column_stack([joints, np.where(inside, visibility, 0)]).astype(np.float32),
        }

    def box(self, index: int, sampled: AugmentationSample) -> tuple[np.ndarray, np.ndarray]:
        """The centre and scale (2,) of a record's crop under a given augmentation, before rotation and flipping."""
        records = self.records
        joints, visibility = (values[index] for values in records.labels)
        return augment_box(
            records.center[index],
            records.scale[index],
            joints,
            visibility,
            self.upper_body_ids,
            self.augmentation,
            sampled,
            aspect_ratio(self.input_shape, self.codec),
        )

    def _image(self, index: int, scale: np.ndarray) -> Decoded:
        """A record's image, for a crop of this scale."""
        path = self.records.path(index)
        if not self.reduced_jpeg:
            return Decoded.full(read_image(path))
        zoom = CODECS[self.codec].length(self.input_shape[1]) / (scale[0] * PIXELS_PER_SCALE)
        return read_reduced(path, zoom)


class TestSamples(Dataset):
    """Test samples: each record as crop_person returns it, and its other views as image1, image2, ...

    The last image is kept, so that the file is read once for consecutive people in the same image.
    """

    __test__ = False  # for pytest: not a test class

    def __init__(
        self,
        records: Records,
        extension: Sequence[float],
        input_shape: Sequence[int],
        codec: str = 'standard',
        views: Sequence[View] = (),
    ) -> None:
        self.records, self.views = records, views
        self.extension, self.input_shape, self.codec = extension, input_shape, codec
        self.last: tuple[Path, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        image = self._image(self.records.path(index))
        center, scale = self.records.center[index], self.records.scale[index]
        sample = crop_person(image, center, scale, self.extension, self.input_shape, self.codec)
        for number, view in enumerate(self.views, start=1):
            sample[f'image{number}'] = crop_view(image, sample['center'], sample['scale'], view, self.codec)
        return sample

    def _image(self, path: Path) -> np.ndarray:
        if self.last is None or self.last[0] != path:
            self.last = None  # frees its memory before the next image is read
            self.last = path, read_image(path)
        return self.last[1]
