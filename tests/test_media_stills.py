"""Still pictures: what is in a file comes out of it, and goes back into one, sample for sample."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_examples import (
    PHOTO,
    assert_same_planes,
    clip_info,
    png_chunk,
    png_file,
    png_samples,
    random_planes,
)
from PIL import Image, ImageCms, ImageOps

from codec.errors import InputError, OutputError
from codec.media import exif, png
from codec.media.convert import RGB_COLOUR
from codec.media.frames import Clip, Colour, Frame, PixelFormat
from codec.media.planes import frame_of
from codec.media.stills import read_still, still_bytes, write_still

KINDS = [
    (PixelFormat("gray", depth, alpha), colour_type + 4 * alpha)
    for depth in (8, 16)
    for alpha in (False, True)
    for colour_type in (0,)
] + [(PixelFormat("rgb", depth, alpha), 2 + 4 * alpha) for depth in (8, 16) for alpha in (0, 1)]
few = settings(deadline=None, max_examples=6)


def still_info(kind: PixelFormat, width: int, height: int, colour: Colour | None = None):
    default = RGB_COLOUR if kind.layout == "rgb" else Colour(full_range=True)
    return clip_info(kind, width, height, colour=colour or default)


def planes_in(clip: Clip) -> tuple[np.ndarray, ...]:
    (frame,) = clip.frames
    return frame.planes


@pytest.fixture(scope="module")
def icc_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(("kind", "colour_type"), KINDS)
@few
@given(width=st.integers(1, 17), height=st.integers(1, 17), seed=st.integers(0, 9))
def test_png_is_read_exactly(
    kind: PixelFormat, colour_type: int, width: int, height: int, seed: int
) -> None:
    planes = random_planes(kind, width, height, seed)
    clip = read_still(png_file(np.stack(planes, -1), colour_type, kind.depth))
    assert clip.info.is_still
    assert clip.num_frames == 1
    assert clip.info.format == kind
    assert (clip.info.width, clip.info.height) == (width, height)
    assert clip.info.colour == (RGB_COLOUR if kind.layout == "rgb" else Colour(full_range=True))
    assert_same_planes(planes_in(clip), planes)


@pytest.mark.parametrize(("kind", "colour_type"), KINDS)
@few
@given(width=st.integers(1, 17), height=st.integers(1, 17), seed=st.integers(0, 9))
def test_png_is_written_exactly(
    kind: PixelFormat, colour_type: int, width: int, height: int, seed: int
) -> None:
    planes = random_planes(kind, width, height, seed)
    data = still_bytes(still_info(kind, width, height), Frame(planes), ".png", {})
    assert struct.unpack_from(">II", data, 16) == (width, height)
    assert (data[24], data[25]) == (kind.depth, colour_type)
    np.testing.assert_array_equal(png_samples(data), np.stack(planes, -1))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_smooth_png_of_many_rows_is_written_exactly_and_small(depth: int) -> None:
    y, x = np.mgrid[:400, :300]
    kind = PixelFormat("rgb", depth)
    waves = (y + 2 * x, 5 * x, 7 * y)
    planes = tuple(((wave << (depth - 8)) // 8 % (1 << depth)).astype(kind.dtype) for wave in waves)
    data = still_bytes(still_info(kind, 300, 400), Frame(planes), ".png", {})
    assert_same_planes(planes_in(read_still(data)), planes)
    assert len(data) < 0.4 * sum(plane.nbytes for plane in planes)


def test_a_photograph_makes_the_round_trip(tmp_path: Path) -> None:
    clip = read_still(PHOTO)
    (frame,) = clip.frames
    np.testing.assert_array_equal(np.stack(frame.planes, -1), np.asarray(Image.open(PHOTO)))
    for name in ("copy.png", "copy.webp", "copy.tif", "copy.bmp", "copy.ppm"):
        write_still(tmp_path / name, clip.info, frame, {})
        again = read_still(tmp_path / name)
        assert again.info == clip.info
        assert_same_planes(planes_in(again), frame.planes)


@pytest.mark.parametrize("extension", [".jpg", ".jpeg", ".avif"])
def test_lossy_pictures_are_close(extension: str) -> None:
    clip = read_still(PHOTO)
    (frame,) = clip.frames
    again = planes_in(read_still(still_bytes(clip.info, frame, extension, {})))
    for one, other in zip(frame.planes, again, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 3


def test_palettes_and_small_depths_are_expanded() -> None:
    palette = (b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
    indices = np.array([[0b01100000]])
    plain = read_still(png_file(indices, 3, 1, [palette]))
    assert plain.info.format == PixelFormat("rgb", 8)
    red = planes_in(plain)[0]
    assert red.tolist() == [[10, 40, 40, 10, 10, 10, 10, 10]]

    clear = read_still(png_file(indices, 3, 1, [palette, (b"tRNS", bytes([128]))]))
    assert clear.info.format == PixelFormat("rgb", 8, alpha=True)
    alpha = planes_in(clear)[3]
    assert alpha.tolist() == [[128, 255, 255, 128, 128, 128, 128, 128]]

    assert planes_in(read_still(png_file(indices, 0, 1)))[0].tolist() == [
        [0, 255, 255, 0, 0, 0, 0, 0]
    ]
    assert planes_in(read_still(png_file(np.array([[0x1B]]), 0, 2)))[0].tolist() == [
        [0, 85, 170, 255]
    ]


@pytest.mark.parametrize(("bits", "colour_type"), [(8, 0), (16, 0), (8, 2), (16, 2)])
def test_a_transparent_colour_becomes_alpha(bits: int, colour_type: int) -> None:
    channels = 1 if colour_type == 0 else 3
    samples = np.arange(4 * channels).reshape(2, 2, channels)
    key = samples[0, 1].astype(">u2").tobytes()
    clip = read_still(png_file(samples, colour_type, bits, [(b"tRNS", key)]))
    planes = planes_in(clip)
    peak = (1 << bits) - 1
    assert clip.info.format.alpha
    assert planes[-1].tolist() == [[peak, 0], [peak, peak]]
    np.testing.assert_array_equal(np.stack(planes[:-1], -1), samples)


def test_cmyk_becomes_rgb_and_its_profile_goes(icc_profile: bytes) -> None:
    file = io.BytesIO()
    Image.new("CMYK", (3, 2), (0, 255, 255, 0)).save(file, "TIFF", icc_profile=icc_profile)
    clip = read_still(file.getvalue())
    assert clip.info.format == PixelFormat("rgb", 8)
    assert [int(plane[0, 0]) for plane in planes_in(clip)] == [255, 0, 0]
    assert clip.metadata == {}
    assert "CMYK" in clip.notes[0]


def test_deep_grey_of_other_files() -> None:
    samples = random_planes(PixelFormat("gray", 16), 5, 4)[0]
    for kind in ("PPM", "TIFF"):
        file = io.BytesIO()
        Image.fromarray(samples).save(file, kind)
        clip = read_still(file.getvalue())
        assert clip.info.format == PixelFormat("gray", 16)
        assert_same_planes(planes_in(clip), (samples,))


def ffmpeg_picture(encoder_name: str, pixel_name: str, planes: tuple[np.ndarray, ...]) -> bytes:
    height, width = planes[0].shape
    encoder = av.CodecContext.create(encoder_name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, pixel_name
    encoder.time_base = Fraction(1, 25)
    packets = [*encoder.encode(frame_of(planes, pixel_name)), *encoder.encode(None)]
    return b"".join(map(bytes, packets))


@pytest.mark.parametrize(
    ("encoder_name", "pixel_name"),
    [("tiff", "rgb48le"), ("tiff", "rgba64le"), ("ppm", "rgb48be"), ("jpeg2000", "rgb48le")],
)
def test_deep_colour_of_other_files(encoder_name: str, pixel_name: str) -> None:
    kind = PixelFormat("rgb", 16, alpha=pixel_name == "rgba64le")
    planes = random_planes(kind, 16, 15)
    clip = read_still(ffmpeg_picture(encoder_name, pixel_name, planes))
    assert clip.info.format == kind
    if encoder_name != "jpeg2000":
        assert_same_planes(planes_in(clip), planes)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("value", [1, 3, 6, 7])
def test_orientation_of_tiff(bits: int, value: int) -> None:
    # Rows of samples, then a directory of the tags of a baseline RGB picture (TIFF 6.0, page 24).
    samples = np.arange(3 * 4 * 3).reshape(3, 4, 3) * (257 if bits == 16 else 1)
    body = samples.astype("<u2" if bits == 16 else np.uint8).tobytes()
    tags = [(256, 3, 1, 4), (257, 3, 1, 3), (258, 3, 3, 8 + len(body)), (259, 3, 1, 1)]
    tags += [(262, 3, 1, 2), (273, 4, 1, 8), (274, 3, 1, value), (277, 3, 1, 3), (278, 3, 1, 3)]
    tags += [(279, 4, 1, len(body))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    start = 8 + len(body) + 6
    data = b"II*\0" + struct.pack("<I", start) + body + struct.pack("<3H", *[bits] * 3)
    (frame,) = read_still(data + directory + bytes(4)).frames
    turned = {1: samples, 3: samples[::-1, ::-1], 6: np.rot90(samples, 3)}
    turned[7] = samples[::-1, ::-1].transpose(1, 0, 2)
    np.testing.assert_array_equal(np.stack(frame.planes, -1), turned[value])


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_exif_orientation_is_applied_once(value: int, byte_order: str) -> None:
    picture = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    tags = Image.Exif()
    tags.endian = byte_order
    tags[0x0112], tags[0x010E] = value, "a description"
    file = io.BytesIO()
    picture.save(file, "PNG", exif=tags.tobytes())
    clip = read_still(file.getvalue())
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue()))))
    (frame,) = clip.frames
    np.testing.assert_array_equal(np.stack(frame.planes, -1), upright)
    assert (clip.info.height, clip.info.width) == upright.shape[:2]

    written = still_bytes(clip.info, frame, ".png", clip.metadata)
    again = read_still(written)
    assert_same_planes(planes_in(again), frame.planes)
    kept = Image.open(io.BytesIO(written)).getexif()
    assert (kept[0x0112], kept[0x010E]) == (1, "a description")


def test_resetting_the_orientation_changes_its_two_bytes_only() -> None:
    tags = Image.Exif()
    tags[0x0112], tags[0x010E] = 8, "x"
    before = exif.bare(tags.tobytes())
    after = exif.with_upright_orientation(before)
    assert exif.orientation(before) == 8
    assert exif.orientation(after) == 1
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


@given(
    block=st.binary(max_size=80),
    start=st.sampled_from([b"", b"II*\0", b"MM\0*", b"II*\0\x08\0\0\0"]),
)
@settings(deadline=None)
def test_damaged_exif_is_left_alone(block: bytes, start: bytes) -> None:
    data = start + block
    assert 1 <= exif.orientation(data) <= 8
    assert len(exif.with_upright_orientation(data)) == len(data)
    assert exif.orientation(exif.with_upright_orientation(data)) == 1


@pytest.mark.parametrize(
    ("extension", "depth"), [(".png", 8), (".png", 16), (".jpg", 8), (".webp", 8)]
)
def test_metadata_is_kept(extension: str, depth: int, icc_profile: bytes) -> None:
    tags = Image.Exif()
    tags[0x010E] = "a description"
    metadata = {
        "icc": icc_profile,
        "exif": exif.bare(tags.tobytes()),
        "xmp": "<x:xmpmeta>é</x:xmpmeta>".encode(),
    }
    kind = PixelFormat("rgb", depth)
    frame = Frame(random_planes(kind, 8, 8))
    data = still_bytes(still_info(kind, 8, 8), frame, extension, metadata)
    assert read_still(data).metadata == metadata
    seen = Image.open(io.BytesIO(data))
    seen.load()
    assert seen.info["icc_profile"] == icc_profile
    assert seen.getexif()[0x010E] == "a description"


@pytest.mark.parametrize("depth", [8, 16])
def test_colour_code_points_of_png(depth: int) -> None:
    kind = PixelFormat("rgb", depth)
    colour = Colour(primaries=9, transfer=16, matrix=0, full_range=True)
    data = still_bytes(still_info(kind, 2, 2, colour), Frame(random_planes(kind, 2, 2)), ".png", {})
    assert png_chunk(b"cICP", bytes([9, 16, 0, 1])) in data
    assert read_still(data).info.colour == colour
    assert png.stated_colour(PHOTO.read_bytes()) is None


def test_exif_written_as_text() -> None:
    tags = Image.Exif()
    tags[0x0112] = 3
    block = exif.bare(tags.tobytes())
    text = f"\nexif\n{len(block):8}\n{block.hex()}"
    chunk = (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text.encode()))
    clip = read_still(png_file(np.array([[[1], [2]]]), 0, 8, [chunk]))
    assert planes_in(clip)[0].tolist() == [[2, 1]]


@pytest.mark.parametrize(
    "chunk",
    [
        (b"tEXt", b"Raw profile type exif\0\nexif\n    12\nzz"),
        (b"eXIf", b"garbage"),
        (b"eXIf", b"II*\0\xff\xff\xff\xff"),
        (b"iCCP", b"name\0\0garbage"),
        (b"cICP", b"\1"),
    ],
)
def test_damaged_metadata_does_not_spoil_the_picture(chunk: tuple[bytes, bytes]) -> None:
    clip = read_still(png_file(np.array([[[1, 2, 3]]]), 2, 8, [chunk]))
    assert [int(plane[0, 0]) for plane in planes_in(clip)] == [1, 2, 3]
    assert "icc" not in clip.metadata


def truncated_at(fraction: float, bits: int) -> bytes:
    kind = PixelFormat("rgb", bits)
    data = png_file(np.stack(random_planes(kind, 40, 40), -1), 2, bits)
    return data[: int(len(data) * fraction)]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("fraction", [0.003, 0.01, 0.5, 0.95])
def test_truncated_pictures(bits: int, fraction: float) -> None:
    with pytest.raises(InputError, match=r"^name\.png: "):
        read_still(truncated_at(fraction, bits), name="name.png")


def test_what_is_no_picture() -> None:
    with pytest.raises(InputError, match=r"^letter: .*read") as caught:
        read_still(b"Dear Sir or Madam,\n" * 40, name="letter")
    assert "\n" not in str(caught.value)
    floats = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.float32)).save(floats, "TIFF")
    with pytest.raises(InputError, match="floating point"):
        read_still(floats.getvalue())
    wide = io.BytesIO()
    Image.fromarray(np.full((2, 2), 70000, np.int32)).save(wide, "TIFF")
    with pytest.raises(InputError, match="32 bit"):
        read_still(wide.getvalue())


def test_a_huge_declared_size_is_refused() -> None:
    data = png_file(np.array([[[1, 2, 3]]]), 2, 8)
    header = b"IHDR" + struct.pack(">IIBBBBB", 1 << 20, 1 << 20, 8, 2, 0, 0, 0)
    huge = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    with pytest.raises(InputError, match="exceeds limit"):
        read_still(huge)


@pytest.mark.parametrize(
    ("kind", "extension", "complaint"),
    [
        (PixelFormat("rgb", 8, alpha=True), ".jpg", "alpha"),
        (PixelFormat("gray", 8, alpha=True), ".bmp", "alpha"),
        (PixelFormat("rgb", 16), ".webp", "16-bit"),
        (PixelFormat("gray", 16), ".jpg", "16-bit"),
        (PixelFormat("rgb", 16), ".tif", "16-bit"),
        (PixelFormat("yuv420", 10), ".jpg", "16-bit"),
        (PixelFormat("rgb", 8), ".pgm", "grey"),
        (PixelFormat("rgb", 8), ".xyz", "use one of .png"),
    ],
)
def test_what_a_file_cannot_hold(kind: PixelFormat, extension: str, complaint: str) -> None:
    frame = Frame(random_planes(kind, 4, 4))
    with pytest.raises(OutputError, match=complaint):
        still_bytes(clip_info(kind, 4, 4), frame, extension, {})


def test_metadata_too_large_for_the_file() -> None:
    kind = PixelFormat("gray", 8)
    with pytest.raises(OutputError, match=r"use \.png"):
        still_bytes(
            still_info(kind, 4, 4), Frame(random_planes(kind, 4, 4)), ".jpg", {"exif": bytes(70000)}
        )


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    kind = PixelFormat("gray", 8)
    target = tmp_path / "none" / "a.png"
    with pytest.raises(OutputError, match=r"a\.png: cannot be written: No such file"):
        write_still(target, still_info(kind, 4, 4), Frame(random_planes(kind, 4, 4)), {})
