"""Segments with known pictures, and files of several kinds, for the tests of the decoder."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from fixedpoint_networks import architecture, random_codes, random_latents

from codec.arch import numerics_for_depth
from codec.bitstream.elements import Network, Partition, Segment
from codec.fixedpoint.entropy import encode_latents
from codec.fixedpoint.pictures import frame_hash
from codec.fixedpoint.pictures_reference import frames_reference
from codec.fixedpoint.program import load_network
from codec.fixedpoint.render_reference import render_reference
from codec.media.frames import ClipInfo, Frame, PixelFormat

STILL_ARCH = architecture(num_channels=4)
STILL_INFO = ClipInfo(PixelFormat("rgb", 16, alpha=True), 31, 22, is_still=True)
CLIP_INFO = ClipInfo(PixelFormat("yuv420", 8), 35, 27, is_still=False)
Pictures = list[list[np.ndarray]]


def make_segment(
    network: Network,
    clip: ClipInfo,
    *,
    first_frame: int = 0,
    num_frames: int = 1,
    network_id: int = 0,
    rect: tuple[int, int, int, int] | None = None,
    seed: int = 0,
) -> tuple[Segment, Pictures]:
    """A segment of random latents, and its pictures as the plain twins make them."""
    rect = rect or (0, 0, clip.height, clip.width)
    size = {"num_frames": num_frames, "height": rect[2], "width": rect[3]}
    numerics = numerics_for_depth(clip.format.coded_depth)
    latents = random_latents(network.arch, **size, seed=seed, limit=40)
    codes = random_codes(network.arch, num_frames=num_frames, seed=seed)
    partition = Partition(split_frames=num_frames > 2, bands=2)
    present, substreams = encode_latents(
        load_network(network, numerics), latents, **size, partition=partition
    )
    channels = render_reference(network, latents, codes, **size, noise_seed=seed, numerics=numerics)
    pictures = [
        [
            plane.astype(clip.format.dtype)
            for plane in frames_reference(frame, clip.format, numerics=numerics)
        ]
        for frame in channels
    ]
    segment = Segment(
        first_frame=first_frame,
        num_frames=num_frames,
        rect=rect,
        network_id=network_id,
        grid_present=present,
        substreams=substreams,
        frame_hashes=tuple(map(frame_hash, pictures)),
        pts_ticks=tuple(
            0 if clip.is_still else first_frame + t + (t > 0) for t in range(num_frames)
        ),
        codes=codes,
        noise_seed=seed if network.arch.common_randomness else 0,
        partition=partition,
    )
    return segment, pictures


class Pipe(io.RawIOBase):
    """Bytes that come in small pieces and cannot be sought."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 100) if size >= 0 else size)


class Watched(io.BytesIO):
    """A file that remembers how many bytes were read from it."""

    num_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.num_read += len(data)
        return data


def assert_same(frames: Sequence[Frame], pictures: Pictures) -> None:
    assert len(frames) == len(pictures)
    for frame, picture in zip(frames, pictures, strict=True):
        assert len(frame.planes) == len(picture)
        for plane, expected in zip(frame.planes, picture, strict=True):
            assert plane.dtype == expected.dtype
            assert np.array_equal(plane, expected)
