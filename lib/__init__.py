"""MSPN: configuration, models, data sets, loaders, tools."""

import os

import lib.clone  # noqa: F401

# What OpenCV decodes at most, read once when cv2 is imported: 134 million pixels, 402 MB. Its own limit of eight
# times as many would let one small file take 3 GB in every worker.
os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(2**27))
