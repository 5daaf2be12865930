"""From sources to streams: what the decoder shows is what the encoder reported."""

from __future__ import annotations

import gc
import io
import math
import weakref
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from small_pictures import clip, still

import codec.encoder.encode
from codec.arch import Grid
from codec.arch.presets import build_architectures, load_preset
from codec.bitstream.elements import Partition
from codec.bitstream.reader import StreamReader
from codec.decoder import open_stream
from codec.encoder import choose_device, encode_clip
from codec.encoder.coding import choose_partition
from codec.errors import InputError, UsageError
from codec.media.frames import Clip, ClipInfo, Frame, PixelFormat
from codec.media.sources import open_source
from codec.options import EncodeOptions, EncodeReport, Progress
from codec.segments import BASE_BYTES, BYTES_PER_PIXEL
from codec.training.trainer import Trainer

torch.set_num_threads(1)
SAMPLES = Path(__file__).resolve().parent.parent / "samples"
# Few steps: how well it trains is not at stake here.
OPTIONS = EncodeOptions(preset="instant", rd_lambda=1e-3, seed=3, steps=6, threads=1, device="cpu")


def photo(height: int, width: int) -> Clip:
    """The middle of the sample photograph."""
    whole = open_source(SAMPLES / "photo.png")
    (frame,) = whole.frames
    top, left = frame.planes[0].shape[0] // 2, frame.planes[0].shape[1] // 2
    planes = tuple(p[top : top + height, left : left + width].copy() for p in frame.planes)
    info = replace(whole.info, height=height, width=width)
    return Clip(info, iter([Frame(planes)]), num_frames=1, metadata=whole.metadata)


# Noise planes, codes that change with time, slow grids.
OWN_PRESET = """
[image]
steps = 9
static = "0-4"
hyper = "3"
synthesis = ["6-1-linear-relu", "X-3-linear-none"]
common_randomness = true
[clip]
steps = 9
static = "0-4"
slow = "2:2"
dynamic = "1-2"
contexts = 6
ifce_features = 2
temporal = [
  "X-3x1-ck-none@1/4,causal=1",
  "X-3x3-adaptive-relu@1/4,res=1,gate=1,code=2,every=2",
  "4-3x1-conv-none@1/2,groups=1",
]
synthesis = ["6-1-linear-relu", "X-3-linear-none"]
up_taps = 4
pre_taps = 3
common_randomness = true
[training]
candidates = 1
"""

# Frames that are predicted, and a code for each level of prediction.
MOVING_PRESET = """
[image]
steps = 9
static = "0-4"
synthesis = ["X-3-linear-none"]
[clip]
steps = 9
static = ""
dynamic = "0-2"
motion = ["3"]
ifce_levels = ""
temporal = [
  "X-1x1-adaptive-none@1/4,res=1,gate=1,code=2,every=level",
  "X-3x1-adaptive-relu@1/2,res=1,gate=1,code=1,every=2",
]
synthesis = ["6-1-linear-relu", "X+2-1-linear-none", "X-3-difference-none"]
[training]
growth_share = 0.5
"""

SOURCES = {
    "photo": lambda: photo(40, 51),
    "rgba-16": lambda: still(PixelFormat("rgb", 16, alpha=True), 19, 27),
    "gray": lambda: still(PixelFormat("gray", 8), 16, 33),
    "gray-alpha-16": lambda: still(PixelFormat("gray", 16, alpha=True), 9, 8),
    "1x1": lambda: still(PixelFormat("rgb", 8), 1, 1),
    "1x1x3": lambda: clip(PixelFormat("yuv444", 8), 1, 1, (0, 1, 2)),
    "1x1-420": lambda: clip(PixelFormat("yuv420", 8), 1, 1, (0, 1)),
    "63x47x5": lambda: open_source(SAMPLES / "tiny_63x47.y4m"),
    "63x47x5-10": lambda: clip(PixelFormat("yuv420", 10), 47, 63, (0, 1, 2, 3, 4)),
    "422-12-alpha": lambda: clip(PixelFormat("yuv422", 12, alpha=True), 11, 17, (0, 1)),
    "420-alpha": lambda: clip(PixelFormat("yuv420", 8, alpha=True), 11, 17, (0, 1, 2)),
    "gray-clip": lambda: clip(PixelFormat("gray", 8), 12, 9, (5, 7, 10), frame_ticks=2),
    "one-frame-clip": lambda: clip(PixelFormat("yuv420", 8), 13, 10, (40,)),
}


def encode(source: Clip, **changes) -> tuple[EncodeReport, bytes]:
    file = io.BytesIO()
    report = encode_clip(source, file, options=replace(OPTIONS, **changes))
    return report, file.getvalue()


def colour_mse(reference: Frame, test: Frame, fmt: PixelFormat) -> float:
    """(4Y + U + V) / 6 or the mean of the planes; where there is alpha, of what it shows."""
    errors = []
    colour = fmt.num_planes - fmt.alpha
    for i, (a, b) in enumerate(zip(reference.planes[:colour], test.planes, strict=False)):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        difference = (a.astype(np.float64) - b) ** 2
        if fmt.alpha:
            down_y, down_x = fmt.chroma_shifts if i else (0, 0)
            height, width = reference.planes[0].shape
            visible = np.zeros(a.shape, bool)
            for y, x in zip(*np.nonzero(reference.planes[-1]), strict=True):
                assert 0 <= y < height
                assert 0 <= x < width
                visible[y >> down_y, x >> down_x] = True
            difference = difference[visible]
        errors.append(difference.mean())
    weights = (4, 1, 1) if fmt.layout.startswith("yuv") else (1,) * colour
    return sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights)


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_decoded_is_what_was_reported(name):
    # What six steps make of one pixel is luck; 30 reach a look at the hidden units as well.
    steps = 30 if name == "1x1" else OPTIONS.steps
    check(name, steps=steps)


@pytest.mark.parametrize("name", ["photo", "rgba-16", "63x47x5-10"])
def test_so_it_is_with_noise_and_codes(name, tmp_path):
    (tmp_path / "own.toml").write_text(OWN_PRESET, encoding="utf-8")
    data = check(name, preset=str(tmp_path / "own.toml"), steps=None, seed=(1 << 32) - 1)
    reader = StreamReader(io.BytesIO(data))
    (segment,) = reader.segments()
    assert segment.noise_seed == (1 << 32) - 1
    assert reader.network(segment.network_id).arch.common_randomness
    assert set(segment.codes) == ({"temporal.1.codes"} if name == "63x47x5-10" else set())


def check(name: str, **changes) -> bytes:
    """Encode, decode and compare; gives back the stream."""
    source = SOURCES[name]()
    report, data = encode(source, **changes)
    originals = list(SOURCES[name]().frames)
    shown = open_stream(data, threads=1)
    assert shown.info == source.info
    decoded = list(shown.frames())
    assert len(decoded) == len(originals) == report.num_frames
    if not source.info.is_still:
        assert [f.pts_ticks for f in decoded] == [f.pts_ticks for f in originals]
    fmt = source.info.format
    errors = [colour_mse(a, b, fmt) for a, b in zip(originals, decoded, strict=True)]
    psnr = 10 * math.log10(fmt.peak**2 / np.mean(errors))
    assert report.psnr_db == pytest.approx(psnr, abs=0.005)
    assert report.psnr_db > 8
    for mse, reported in zip(errors, report.frame_psnr_db, strict=True):
        assert reported == pytest.approx(min(99, 10 * math.log10(fmt.peak**2 / max(mse, 1e-12))))
    reader = StreamReader(io.BytesIO(data))
    stated = [h for segment in reader.segments() for h in segment.frame_hashes]
    assert report.frame_hashes == tuple(stated)
    return data


def test_so_it_is_with_codes_for_prediction_levels(tmp_path):
    (tmp_path / "moving.toml").write_text(MOVING_PRESET, encoding="utf-8")
    data = check("63x47x5", preset=str(tmp_path / "moving.toml"), steps=None)
    (segment,) = StreamReader(io.BytesIO(data)).segments()
    shapes = {name: values.shape for name, values in segment.codes.items()}
    assert shapes == {"temporal.0.codes": (3, 2), "temporal.1.codes": (2, 1)}


@pytest.mark.parametrize("name", ["photo", "63x47x5"])
def test_the_report_counts_the_bytes_of_the_file(name):
    source = SOURCES[name]()
    report, data = encode(source)
    assert report.size_bytes == len(data)
    pixels = report.num_frames * report.width * report.height
    assert report.bpp == pytest.approx(8 * len(data) / pixels)
    reader = StreamReader(io.BytesIO(data))
    segments = list(reader.segments())
    assert report.latent_bytes == sum(len(s) for seg in segments for s in seg.substreams)
    overhead = len(data) - report.network_bytes - report.latent_bytes
    allowed = 32 if source.info.is_still else 24 + 6 * report.num_frames + 40
    assert 0 < overhead <= allowed + sum(map(len, source.metadata.values()))
    assert (report.width, report.height) == (source.info.width, source.info.height)
    assert (report.steps, report.seed, report.preset) == (6, 3, "instant")
    assert report.rd_lambda == 1e-3


def test_the_same_seed_gives_the_same_file():
    first = encode(SOURCES["1x1x3"]())
    assert encode(SOURCES["1x1x3"]())[1] == first[1]
    assert encode(SOURCES["1x1x3"](), seed=4)[1] != first[1]
    photos = [encode(SOURCES["photo"](), seed=9)[1] for _ in range(2)]
    assert photos[0] == photos[1]


def test_longer_training_and_smaller_lambda_do_what_they_say():
    short = encode(photo(24, 32), steps=5, rd_lambda=1e-4)[0]
    fine, coarse = (encode(photo(24, 32), steps=50, rd_lambda=r)[0] for r in (1e-4, 1e-2))
    assert fine.psnr_db > short.psnr_db + 1
    assert fine.latent_bytes > coarse.latent_bytes
    assert fine.psnr_db > coarse.psnr_db


@pytest.fixture
def three_frames_a_segment(monkeypatch):
    monkeypatch.setattr(codec.encoder.encode, "segment_length", lambda *size, **memory: 3)


def test_segments_are_independent(three_frames_a_segment):
    pts = (0, 1, 2, 3, 5, 8, 13)
    source = clip(PixelFormat("yuv420", 8), 13, 18, pts)
    report, data = encode(source, steps=3)
    assert report.steps == 9
    assert report.num_frames == 7
    segments = list(StreamReader(io.BytesIO(data)).segments())
    assert [(s.first_frame, s.num_frames) for s in segments] == [(0, 3), (3, 2), (5, 2)]
    assert len({s.network_id for s in segments}) == 3
    whole = list(open_stream(data, threads=1).frames())
    assert [f.pts_ticks for f in whole] == list(pts)
    for first, end in [(0, 7), (3, 4), (2, 5), (6, 7)]:
        part = open_stream(data, threads=1).frames(first, end)
        for got, wanted in zip(part, whole[first:end], strict=True):
            assert got.pts_ticks == wanted.pts_ticks
            for a, b in zip(got.planes, wanted.planes, strict=True):
                np.testing.assert_array_equal(a, b)


def test_segments_are_let_go_before_the_next_is_trained(three_frames_a_segment, monkeypatch):
    trainers, counts = weakref.WeakSet(), []

    class Watched(Trainer):
        def run(self, *args, **options):
            trainers.add(self)
            counts.append(len(trainers))
            return super().run(*args, **options)

    monkeypatch.setattr(codec.encoder.encode, "Trainer", Watched)
    gc.disable()
    try:
        encode(clip(PixelFormat("yuv420", 8), 13, 18, tuple(range(9))), steps=3)
    finally:
        gc.enable()
    assert counts == [1, 1, 1]


def segments_of(data: bytes) -> list[tuple[int, int]]:
    return [(s.first_frame, s.num_frames) for s in StreamReader(io.BytesIO(data)).segments()]


def test_a_scene_cut_begins_a_segment():
    smooth = clip(PixelFormat("gray", 8), 24, 32, (0, 1, 2, 3, 4))
    noise = np.random.default_rng(4).integers(0, 256, (24, 32), np.uint8)
    other = [Frame((noise,), pts_ticks=t) for t in (5, 6)]
    heard: list[Progress] = []
    source = Clip(smooth.info, chain(smooth.frames, other), num_frames=7)
    file, options = io.BytesIO(), replace(OPTIONS, steps=2)
    report = encode_clip(source, file, options=options, on_progress=heard.append)
    assert segments_of(file.getvalue()) == [(0, 5), (5, 2)]
    assert report.steps == 4
    assert heard[-1].segment == heard[-1].num_segments - 1
    assert all(p.step <= p.num_steps for p in heard)


def test_memory_shortens_segments():
    memory = BASE_BYTES + 4 * 13 * 18 * BYTES_PER_PIXEL
    source = clip(PixelFormat("yuv420", 8), 13, 18, (0, 1, 2, 3, 4))
    _, data = encode(source, steps=1, max_memory_bytes=memory)
    assert segments_of(data) == [(0, 3), (3, 2)]
    with pytest.raises(UsageError, match="or more"):
        encode(photo(24, 32), steps=1, max_memory_bytes=BASE_BYTES)


def test_metadata_and_sound_go_into_the_file():
    source = open_source(SAMPLES / "clip.mkv", limit=2)
    assert source.audio is not None
    pictures = [
        Frame(tuple(np.ascontiguousarray(p[: 24 >> (i > 0), : 32 >> (i > 0)])
                    for i, p in enumerate(f.planes)), f.pts_ticks)
        for f in islice(source.frames, 2)
    ]  # fmt: skip
    info = replace(source.info, width=32, height=24)
    cropped = replace(
        source, info=info, frames=iter(pictures), num_frames=2, metadata={"icc": b"profile"}
    )
    report, data = encode(cropped, steps=1)
    shown = open_stream(data)
    assert shown.metadata == {"icc": b"profile"}
    assert shown.audio == source.audio
    sound = sum(len(payload) for _, _, payload in source.audio.packets)
    assert report.bpp == pytest.approx(8 * (len(data) - sound) / (2 * 32 * 24))


def test_progress_goes_from_an_estimate_to_the_last_step(three_frames_a_segment):
    heard: list[Progress] = []
    source = clip(PixelFormat("gray", 8), 9, 9, (0, 1, 2, 3))
    encode_clip(source, io.BytesIO(), options=replace(OPTIONS, steps=5), on_progress=heard.append)
    assert [p.stage for p in heard].count("estimate") == 1
    assert heard[0].stage == "estimate"
    assert heard[0].seconds_left > 0
    steps = [p.step for p in heard]
    assert steps == sorted(steps)
    assert steps[-1] == heard[-1].num_steps == 10
    assert [p.step for p in heard if p.stage == "train"] == list(range(1, 11))
    assert [p.segment for p in heard if p.stage == "freeze"] == [0, 1]
    assert {p.num_segments for p in heard} == {2}
    assert all(math.isfinite(p.seconds_left) for p in heard)
    assert all(math.isfinite(p.bpp + p.psnr_db) for p in heard if p.stage == "freeze")


def test_what_cannot_be_encoded():
    nothing = clip(PixelFormat("gray", 8), 9, 9, ())
    with pytest.raises(InputError, match="no frames"):
        encode(nothing)
    with pytest.raises(UsageError, match="did you mean instant"):
        encode(SOURCES["1x1"](), preset="instan")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="--device cpu"):
            choose_device("cuda")
    assert choose_device("cpu").type == "cpu"


def test_large_pictures_are_cut_into_bands_and_clips_between_frames():
    plan, size = load_preset("fast").image, {"num_frames": 1, "height": 64, "width": 64}
    (picture,) = build_architectures(plan, num_channels=3, **size)
    small = [np.zeros((1, 8, 8), np.int8)] * len(picture.grids)
    assert choose_partition(picture, small) == Partition()
    million = np.broadcast_to(np.int8(0), (1, 1024, 1024))
    assert choose_partition(picture, [million, *small[1:]]) == Partition(bands=2)
    assert choose_partition(picture, [million] * len(small)) == Partition(bands=8)

    moving = replace(picture, grids=(Grid(1, 0), Grid(0, 1)))
    for size, partition in (
        ((64, 64), Partition()),
        ((1000, 500), Partition(split_frames=True)),
        ((1024, 1024), Partition(split_frames=True, bands=2)),
    ):
        shapes = [(1, 8, 8), (8, *size)]
        latents = [np.broadcast_to(np.int8(0), shape) for shape in shapes]
        assert choose_partition(moving, latents) == partition


def test_pictures_that_no_decoder_accepts_are_refused_before_training() -> None:
    info = ClipInfo(PixelFormat("gray", 8), width=1 << 14, height=(1 << 12) + 1, is_still=True)
    with pytest.raises(InputError, match="16384x4097"):
        encode_clip(Clip(info, iter(())), io.BytesIO(), options=EncodeOptions(steps=1))
