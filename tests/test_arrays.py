"""Arrays as sources and results, and comparisons, against sums written out anew."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from codec.arrays import array_of, clip_of
from codec.comparison import compare_clips, file_size
from codec.errors import InputError, UsageError
from codec.media.frames import Clip, ClipInfo, Frame, PixelFormat

RNG = np.random.default_rng(5)


def _random(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 2), (3, 5, 3), (3, 5, 4), (1, 1), (4, 3, 5, 1)])
def test_pictures_and_grey_clips_come_back_as_they_were(shape: tuple, dtype: type) -> None:
    array = _random(shape, dtype)
    clip = clip_of(array)
    assert (clip.info.height, clip.info.width) == ((3, 5) if 3 in shape else (1, 1))
    back = array_of(clip.info, clip.frames)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, array)


def test_a_single_channel_picture_is_grey() -> None:
    array = _random((3, 5, 1), np.uint8)
    clip = clip_of(array)
    assert clip.info.format == PixelFormat("gray", 8)
    np.testing.assert_array_equal(array_of(clip.info, clip.frames), array[..., 0])


def test_rgb_clips_survive_yuv_to_a_step() -> None:
    array = _random((3, 4, 6, 3), np.uint8)
    clip = clip_of(array, frame_rate=Fraction(30000, 1001))
    assert clip.info.format == PixelFormat("yuv444", 8)
    assert clip.info.time_base == Fraction(1001, 30000)
    frames = list(clip.frames)
    assert [frame.pts_ticks for frame in frames] == [0, 1, 2]
    luma = array @ np.array([0.299, 0.587, 0.114])
    assert np.abs(np.stack([frame.planes[0] for frame in frames]) - luma).max() <= 0.51
    back = array_of(clip.info, frames)
    assert np.abs(back.astype(int) - array).max() <= 2


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 5), np.float32),
        np.zeros((3, 5, 5), np.uint8),
        np.zeros((2, 3, 5, 4), np.uint8),
        np.zeros((0, 5), np.uint8),
        np.zeros(5, np.uint8),
        np.zeros((1, 2, 3, 5, 1), np.uint8),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_arrays_that_are_no_picture_are_refused(array: np.ndarray) -> None:
    with pytest.raises(UsageError, match="arrays must be"):
        clip_of(array)


@pytest.mark.parametrize("frame_rate", [0, -25, 1e-9, 20_001, 1e12])
def test_frame_rates_that_no_stream_holds_are_refused(frame_rate: float) -> None:
    with pytest.raises(UsageError, match="frame rate must be"):
        clip_of(np.zeros((2, 3, 5, 1), np.uint8), frame_rate=frame_rate)


def _psnr(mse: float, peak: int = 255) -> float:
    return 10 * math.log10(peak**2 / mse)


def _yuv_clip(num_frames: int, offset: int, width: int = 5) -> Clip:
    info = ClipInfo(PixelFormat("yuv420", 8), width, 3, is_still=False)
    shapes = info.format.plane_shapes(3, width)

    def plane(index: int, shape: tuple[int, int], time: int) -> np.ndarray:
        return np.full(shape, 100 + (index + 1) * offset * time, np.uint8)

    frames = [
        Frame(tuple(plane(p, shape, t) for p, shape in enumerate(shapes)))
        for t in range(num_frames)
    ]
    return Clip(info, iter(frames))


def test_comparison_weighs_planes_and_means_errors() -> None:
    result = compare_clips(_yuv_clip(3, 0), _yuv_clip(3, 1), test_bytes=30)
    # Plane p of frame t is off by (p + 1) t everywhere.
    means = [(p + 1) ** 2 * (0 + 1 + 4) / 3 for p in range(3)]
    assert result.num_frames == 3
    for name, mse in zip("YUV", means, strict=True):
        assert result.plane_psnr_db[name] == pytest.approx(_psnr(mse))
    assert result.psnr_db == pytest.approx(_psnr((4 * means[0] + means[1] + means[2]) / 6))
    assert result.frame_psnr_db[0] == 99
    assert result.frame_psnr_db[1] == pytest.approx(_psnr((4 + 4 + 9) / 6))
    assert result.test_bpp == pytest.approx(8 * 30 / (3 * 5 * 3))
    assert result.as_dict()["pixel_format"] == "yuv420 8 bit"


def test_colour_under_no_alpha_does_not_count() -> None:
    reference = np.full((2, 2, 4), 100, np.uint8)
    reference[0, :, 3] = 0
    test = reference.copy()
    test[0, :, :3] = 0
    test[1, :, 1] += 3
    test[1, 0, 3] += 2
    result = compare_clips(clip_of(reference), clip_of(test))
    assert result.psnr_db == pytest.approx(_psnr(9 / 3))
    assert result.plane_psnr_db["G"] == pytest.approx(_psnr(9))
    assert result.plane_psnr_db["R"] == 99
    assert result.plane_psnr_db["A"] == pytest.approx(_psnr(4 / 4))


def test_what_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="test ends after 2 frames"):
        compare_clips(_yuv_clip(3, 0), _yuv_clip(2, 0))
    with pytest.raises(InputError, match="reference ends after 2 frames"):
        compare_clips(_yuv_clip(2, 0), _yuv_clip(3, 0))
    with pytest.raises(InputError, match="5x3 and the test 4x3"):
        compare_clips(_yuv_clip(2, 0), _yuv_clip(2, 0, width=4))
    with pytest.raises(InputError, match="yuv420 8 bit and the test rgb 8 bit"):
        compare_clips(_yuv_clip(1, 0), clip_of(np.zeros((3, 5, 3), np.uint8)))


def test_sizes_are_those_of_files_and_bytes(tmp_path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert file_size(path) == file_size(str(path)) == file_size(b"12345") == 5
    assert file_size(np.zeros(3)) is None
    assert file_size("-") is None
