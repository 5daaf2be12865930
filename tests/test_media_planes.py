"""Planes out of and into FFmpeg's frames, and conversions between colour representations."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_examples import assert_same_planes, clip_info, random_planes

from codec.media.convert import (
    as_picture,
    matrix_or_default,
    rgb_to_yuv444,
    yuv444_to_rgb,
)
from codec.media.frames import Colour, Frame, PixelFormat
from codec.media.planes import PACKINGS, frame_of, planes_of, readable_name, resampled

few = settings(deadline=None, max_examples=25)
# Kr and Kb, from the recommendations BT.601, BT.709 and BT.2020.
WEIGHTS = {6: (0.299, 0.114), 1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}


@pytest.mark.parametrize("name", PACKINGS)
@few
@given(height=st.integers(1, 17), width=st.integers(1, 17), seed=st.integers(0, 9))
def test_planes_survive_a_frame(name: str, height: int, width: int, seed: int) -> None:
    planes = random_planes(PACKINGS[name].pixel_format, width, height, seed)
    frame = frame_of(planes, name)
    assert (frame.width, frame.height, frame.format.name) == (width, height, name)
    assert_same_planes(planes_of(frame), planes)


@pytest.mark.parametrize(
    ("name", "order"),
    [("rgb24", "012"), ("bgra", "2103"), ("rgba", "0123"), ("gbrp", "012"), ("gbrap16le", "0123")],
)
def test_rgb_planes_are_in_the_order_that_pyav_knows(name: str, order: str) -> None:
    planes = random_planes(PACKINGS[name].pixel_format, 16, 8)
    array = frame_of(planes, name).to_ndarray()
    for place, plane in enumerate(order):
        np.testing.assert_array_equal(array[..., place], planes[int(plane)])


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le"])
def test_yuv_planes_are_in_the_order_that_pyav_knows(name: str) -> None:
    planes = random_planes(PACKINGS[name].pixel_format, 16, 8)
    flat = frame_of(planes, name).to_ndarray()
    np.testing.assert_array_equal(flat.ravel(), np.concatenate([p.ravel() for p in planes]))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("nv12", "yuv420p"),
        ("p010le", "yuv420p10le"),
        ("yuv410p", "yuv420p"),
        ("yuv411p", "yuv422p"),
        ("yuv440p", "yuv444p"),
        ("yuv420p9le", "yuv420p10le"),
        ("yuv422p14le", "yuv422p16le"),
        ("yuva420p", "yuva420p"),
        ("monob", "gray"),
        ("gray9le", "gray10le"),
        ("pal8", "rgba"),
        ("bgr8", "rgb24"),
        ("gbrp9le", "rgb48le"),
        ("gbrap14le", "rgba64le"),
    ],
)
def test_other_formats_are_read_as_the_nearest(source: str, target: str) -> None:
    assert readable_name(av.VideoFormat(source)) == target
    assert target in PACKINGS


@pytest.mark.parametrize(("name", "shift"), [("nv12", 0), ("p010le", 6)])
def test_semi_planar_formats_lose_nothing(name: str, shift: int) -> None:
    dtype = np.uint16 if shift else np.uint8
    source = av.VideoFrame(32, 22, name)
    views = [np.frombuffer(plane, dtype).reshape(plane.height, -1) for plane in source.planes]
    for seed, view in enumerate(views):
        noise = np.random.default_rng(seed).integers(0, 1 << (10 if shift else 8), view.shape)
        view[:] = noise << shift
    luma, first, second = planes_of(resampled(source, readable_name(source.format)))
    np.testing.assert_array_equal(luma, views[0][:, :32] >> shift)
    np.testing.assert_array_equal(first, views[1][:, 0:32:2] >> shift)
    np.testing.assert_array_equal(second, views[1][:, 1:32:2] >> shift)


def exact_rgb(
    yuv: tuple[np.ndarray, ...], *, depth: int, matrix: int, full_range: bool
) -> np.ndarray:
    """RGB in [0, 1] by solving the three equations of H.273 for every sample."""
    red, blue = WEIGHTS[matrix]
    green = 1 - red - blue
    luma = np.array([red, green, blue])
    forward = np.stack(
        [
            luma,
            (np.array([0, 0, 1]) - luma) / (2 * (1 - blue)),
            (np.array([1, 0, 0]) - luma) / (2 * (1 - red)),
        ]
    )
    peak, scale = 2**depth - 1, 2 ** (depth - 8)
    zero = np.array([0 if full_range else 16 * scale, 2 ** (depth - 1), 2 ** (depth - 1)])
    step = np.array([peak] * 3 if full_range else [219 * scale, 224 * scale, 224 * scale])
    values = (np.stack(yuv, -1).astype(float) - zero) / step
    return np.clip(np.linalg.solve(forward, values[..., None])[..., 0], 0, 1)


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("depth", "rgb_depth"), [(8, 8), (10, 16), (12, 16)])
def test_yuv_to_rgb(matrix: int, full_range: bool, depth: int, rgb_depth: int) -> None:
    yuv = random_planes(PixelFormat("yuv444", depth), 13, 11)
    kind = {"depth": depth, "matrix": matrix, "full_range": full_range}
    rgb = yuv444_to_rgb(yuv, rgb_depth=rgb_depth, **kind)
    expected = exact_rgb(yuv, **kind) * (2**rgb_depth - 1)
    assert rgb[0].dtype == (np.uint8 if rgb_depth == 8 else np.uint16)
    assert np.abs(np.stack(rgb, -1) - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
def test_rgb_to_yuv_and_back(matrix: int, full_range: bool, depth: int) -> None:
    rgb = random_planes(PixelFormat("rgb", depth), 40, 30)
    kind = {"depth": depth, "matrix": matrix, "full_range": full_range}
    yuv = rgb_to_yuv444(rgb, **kind)
    # Half a step of each of Y, U, V changes a primary by less than two steps.
    restored = exact_rgb(yuv, **kind) * (2**depth - 1)
    assert np.abs(np.stack(rgb, -1) - restored).max() < 2
    white = rgb_to_yuv444((np.full((1, 1), 255, np.uint8),) * 3, **{**kind, "depth": 8})
    assert [int(plane[0, 0]) for plane in white] == [255 if full_range else 235, 128, 128]


def test_the_default_matrix_depends_on_the_lines() -> None:
    assert matrix_or_default(Colour(), 719) == 6
    assert matrix_or_default(Colour(), 720) == 1
    assert matrix_or_default(Colour(matrix=9), 480) == 9


@pytest.mark.parametrize("layout", ["yuv420", "yuv422"])
@pytest.mark.parametrize("depth", [8, 10])
def test_flat_colour_survives_chroma_interpolation(layout: str, depth: int) -> None:
    kind = PixelFormat(layout, depth, alpha=depth == 10)
    info = clip_info(kind, 63, 47, colour=Colour(matrix=1, full_range=True))
    levels = [400, 300, 700, 512] if depth == 10 else [100, 90, 160, 0]
    shapes = kind.plane_shapes(47, 63)
    planes = tuple(
        np.full(shape, level, kind.dtype) for shape, level in zip(shapes, levels, strict=False)
    )
    picture, frame = as_picture(info, Frame(planes))
    deep = 8 if depth == 8 else 16
    assert picture.format == PixelFormat("rgb", deep, alpha=kind.alpha)
    expected = exact_rgb(
        tuple(plane[:1, :1] for plane in planes[:3]), depth=depth, matrix=1, full_range=True
    )
    for plane, value in zip(frame.planes, expected[0, 0], strict=False):
        assert plane.shape == (47, 63)
        assert np.abs(plane - value * (2**deep - 1)).max() <= 0.5 + 1e-6
    if kind.alpha:
        assert np.unique(frame.planes[3]).tolist() == [round(512 * 65535 / 1023)]


def test_grey_and_rgb_keep_their_samples_as_a_picture() -> None:
    for kind in (PixelFormat("gray", 16, alpha=True), PixelFormat("rgb", 8)):
        planes = random_planes(kind, 5, 4)
        picture, frame = as_picture(clip_info(kind, 5, 4), Frame(planes))
        assert picture.format == kind
        assert_same_planes(frame.planes, planes)


def test_identity_matrix_means_that_the_planes_are_green_blue_red() -> None:
    planes = random_planes(PixelFormat("yuv444", 8), 5, 4)
    info = clip_info(PixelFormat("yuv444", 8), 5, 4, colour=Colour(matrix=0, full_range=True))
    _, frame = as_picture(info, Frame(planes))
    assert_same_planes(frame.planes, (planes[2], planes[0], planes[1]))
