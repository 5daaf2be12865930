"""Pictures and clips made from a seed, with statistics like those of photographs."""

from __future__ import annotations

import math

import numpy as np

from codec.media.frames import Frame, PixelFormat

OCTAVES = 8
OCTAVE_GAIN = 1.5  # amplitude of each octave to that of the next finer one
CONTRAST = 40.0  # standard deviation of the noise and of the discs, of 255
TINT = 0.25  # of the noise that channels do not share, to that which they do
GRAIN = 1.5  # standard deviation of what is new in every frame, of 255
PAN = (1, 2)  # rows and columns a frame
DISC_PIXELS = 4096  # of the picture for each disc


def make_frames(
    pixel_format: PixelFormat, *, height: int, width: int, num_frames: int, seed: int = 0
) -> list[Frame]:
    """Consecutive frames of a camera that pans over a scene, with grain.

    The scene is noise that is weaker in finer octaves, and discs with sharp edges. PTS are 0, 1,
    2, ...
    """
    rng = np.random.default_rng(seed)
    rows, columns = (step * (num_frames - 1) for step in PAN)
    scene = _scene(rng, pixel_format.num_planes, height + rows, width + columns)
    frames = []
    for t in range(num_frames):
        top, left = (step * t for step in PAN)
        view = scene[:, top : top + height, left : left + width]
        frames.append(Frame(_planes(view, pixel_format, rng), pts_ticks=t))
    return frames


def _scene(rng: np.random.Generator, channels: int, height: int, width: int) -> np.ndarray:
    """(channels, height, width) on [0, 255] or somewhat beyond, float32; the first is luma-like."""
    shared = _octaves(rng, height, width)
    scene = np.stack([128 + shared + TINT * _octaves(rng, height, width) for _ in range(channels)])
    for _ in range(height * width // DISC_PIXELS):
        # Radii by an inverse power law: a few large discs, many small ones.
        radius = min(3.0 / (rng.random() + 0.02), 60.0)
        y, x = rng.integers(height), rng.integers(width)
        top, left = max(0, int(y - radius)), max(0, int(x - radius))
        part = scene[:, top : int(y + radius) + 1, left : int(x + radius) + 1]
        v, u = np.ogrid[top : top + part.shape[1], left : left + part.shape[2]]
        inside = (v - y) ** 2 + (u - x) ** 2 <= radius**2
        part += inside * rng.normal(0, CONTRAST, (channels, 1, 1)).astype(np.float32)
    return scene


def _octaves(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise (height, width) of standard deviation about CONTRAST, float32."""
    total, power = np.zeros((height, width), np.float32), 0.0
    for octave in range(1, OCTAVES + 1):
        step = 1 << octave
        shape = (height // step + 2, width // step + 2)
        noise = rng.standard_normal(shape, dtype=np.float32)
        gain = OCTAVE_GAIN**octave
        total += np.float32(gain) * _stretch(_stretch(noise, step, height).T, step, width).T
        # Linear interpolation leaves 4/9 of the power.
        power += 4 / 9 * gain**2
    return total * np.float32(CONTRAST / math.sqrt(power))


def _stretch(values: np.ndarray, step: int, length: int) -> np.ndarray:
    """Linear interpolation along the first axis: rows `step` apart become `length` rows."""
    place = np.arange(length, dtype=np.float32) / np.float32(step)
    below = place.astype(np.int64)
    weight = (place - below)[:, None].astype(np.float32)
    return values[below] * (1 - weight) + values[below + 1] * weight


def _planes(
    view: np.ndarray, pixel_format: PixelFormat, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    planes = []
    shapes = pixel_format.plane_shapes(*view.shape[1:])
    for channel, shape in zip(view, shapes, strict=True):
        row_step, column_step = (round(n / m) for n, m in zip(channel.shape, shape, strict=True))
        samples = channel[::row_step, ::column_step]
        samples = samples + GRAIN * rng.standard_normal(shape, dtype=np.float32)
        scaled = np.rint(np.clip(samples, 0, 255) * (pixel_format.peak / 255))
        planes.append(scaled.astype(pixel_format.dtype))
    return tuple(planes)
