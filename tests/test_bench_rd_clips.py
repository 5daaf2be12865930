"""Rate and distortion of clips: other codecs, points from elsewhere, and the command itself."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cli.bench.rdtables import as_markdown
from codec.bench import rd
from codec.bench.clipcodecs import CLIP_CODECS, ClipCodec, without_sei
from codec.bench.contestants import Contestant, Encoded
from codec.bench.inputs import Film, read_inputs
from codec.bench.pictures import make_frames
from codec.bench.points import PointStore, read_published
from codec.bench.rounds import prepare, run_round
from codec.errors import InputError, UsageError
from codec.media.frames import Clip, ClipInfo, Frame, PixelFormat
from codec.media.y4m import write_y4m

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
YUV420 = PixelFormat("yuv420", 8)
WIDTH, HEIGHT, NUM_FRAMES = 80, 64, 5
X264 = next(codec for codec in CLIP_CODECS if codec.name == "x264-medium")
Run = Callable[..., Any]


@pytest.fixture
def clip_path(tmp_path: Path) -> Path:
    """A small clip that pans."""
    return write_pan(tmp_path, YUV420)


def write_pan(folder: Path, pixel_format: PixelFormat) -> Path:
    path = folder / "pan.y4m"
    size = {"height": HEIGHT, "width": WIDTH}
    frames = make_frames(pixel_format, **size, num_frames=NUM_FRAMES)
    with path.open("wb") as file:
        write_y4m(file, ClipInfo(pixel_format, **size, is_still=False), frames)
    return path


def film_of(path: Path, **options: Any) -> Film:
    (film,) = read_inputs([str(path)], **options)
    return film


def darkened(film: Film, steps: int) -> list[Frame]:
    """Each frame one step darker than the one before, the first by `steps`, chroma as it is."""
    return [
        Frame((np.maximum(frame.planes[0], steps + t) - (steps + t), *frame.planes[1:]))
        for t, frame in enumerate(film.frames)
    ]


def stub(film: Film, *, refuses: bool = False) -> Contestant:
    """A codec whose files hold nothing and are as long as its setting says."""

    def encode(clip: Clip, size_bytes: int) -> Encoded:
        if refuses:
            raise UsageError("cannot hold it")
        return Encoded(bytes(size_bytes), size_bytes // 4)

    return Contestant(
        name="stub",
        settings={"size 400": 400, "size 800": 800},
        identity="stub 1",
        threads=1,
        encode=encode,
        decode=lambda data: darkened(film, 2400 // len(data)),
    )


@pytest.mark.parametrize("codec", CLIP_CODECS, ids=lambda codec: codec.name)
def test_other_codecs(codec: ClipCodec, clip_path: Path) -> None:
    if not codec.is_installed():
        pytest.skip("not part of this PyAV")
    film = film_of(clip_path)
    points = []
    for value in (codec.values[1], codec.values[-1]):
        stream = codec.encode(film.content, value, 2)
        points.append((stream.size_bytes, film.psnr_of(codec.decode(stream, 2))[0]))
    (small, bad), (large, good) = points
    assert small < large
    assert 15 < bad < good - 5
    assert "threads=2" in codec.describe(2).replace("pools=", "threads=").replace("lp=", "threads=")


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("name", ["x264-medium", "x265-medium"])
def test_grey_clips_come_back_grey(name: str, depth: int, tmp_path: Path) -> None:
    (codec,) = (codec for codec in CLIP_CODECS if codec.name == name)
    if not codec.is_installed():
        pytest.skip("not part of this PyAV")
    film = film_of(write_pan(tmp_path, PixelFormat("gray", depth)))
    decoded = codec.decode(codec.encode(film.content, 18, 2), 2)
    shapes = [[plane.shape for plane in frame.planes] for frame in decoded]
    assert shapes == [[(HEIGHT, WIDTH)]] * NUM_FRAMES
    assert film.psnr_of(decoded)[0] > 30


def test_files_of_other_codecs_are_the_same_each_time(clip_path: Path) -> None:
    if not X264.is_installed():
        pytest.skip("not part of this PyAV")
    film = film_of(clip_path)
    assert X264.encode(film.content, 30, 2) == X264.encode(film.content, 30, 2)


def test_what_x264_says_of_itself_does_not_count(clip_path: Path) -> None:
    header, picture = b"\0\0\0\1\x67abc", b"\0\0\1\x65\0\0\2"
    assert without_sei(header + b"\0\0\1\x06x264" + picture) == header + picture
    assert without_sei(header + picture) == header + picture
    assert without_sei(b"abc") == b"abc"
    if X264.is_installed():
        assert b"x264" not in b"".join(X264.encode(film_of(clip_path).content, 40, 1).packets)


def test_a_codec_that_is_not_there() -> None:
    assert not ClipCodec(**{**vars(X264), "encoder": "libnothing"}).is_installed()
    assert not ClipCodec(**{**vars(X264), "decoder": "libnothing"}).is_installed()


@pytest.mark.parametrize(
    ("name", "depth", "width", "message"),
    [
        ("x264-medium", 8, 63, "odd size 63x64 in yuv420"),
        ("x264-medium", 12, 64, "yuv420 of 12 bit"),
        ("x265-medium", 8, 62, "62x64, a side below 64"),
        ("svtav1-p2", 8, 62, "62x64, a side below 64"),
    ],
)
def test_clips_that_a_codec_cannot_hold(name: str, depth: int, width: int, message: str) -> None:
    (codec,) = (codec for codec in CLIP_CODECS if codec.name == name)
    if not codec.is_installed():
        pytest.skip("not part of this PyAV")
    info = ClipInfo(PixelFormat("yuv420", depth), width, 64, is_still=False)
    frames = make_frames(info.format, height=64, width=width, num_frames=1)
    with pytest.raises(UsageError, match=message):
        codec.encode(Clip(info, iter(frames)), 30, 1)


def test_psnr_is_that_of_the_mean_error(clip_path: Path) -> None:
    film = film_of(clip_path)
    assert (film.num_frames, film.num_pixels) == (NUM_FRAMES, NUM_FRAMES * WIDTH * HEIGHT)
    psnr_db, of_frames = film.psnr_of(darkened(film, 1))
    pairs = [(one.planes[0].astype(int), 1 + t) for t, one in enumerate(film.frames)]
    errors = [4 / 6 * np.mean(np.minimum(luma, steps) ** 2) for luma, steps in pairs]
    expected = [10 * math.log10(255**2 / error) for error in [np.mean(errors), *errors]]
    assert [psnr_db, *of_frames] == pytest.approx(expected)
    with pytest.raises(UsageError, match="4 frames came back of 5"):
        film.psnr_of(film.frames[1:])


def test_points_hold_the_psnr_of_each_frame(clip_path: Path, tmp_path: Path) -> None:
    film, path = film_of(clip_path, limit=4), str(tmp_path / "rd.json")

    def measure(film: Film) -> rd.Measured:
        store = PointStore(path)
        return rd.measure_points([film], [stub(film)], store, on_line=lambda line: None)

    first, second = measure(film).points
    assert (first.num_frames, first.network_bytes, first.size_bytes) == (4, 100, 400)
    assert first.bpp == 3200 / (4 * WIDTH * HEIGHT)
    assert list(first.frame_psnr_db) == sorted(first.frame_psnr_db, reverse=True)
    assert len(first.frame_psnr_db) == 4
    assert measure(film).points == [first, second]
    assert len(PointStore(path)) == 2
    measure(film_of(clip_path))
    assert len(PointStore(path)) == 4
    # A limit beyond the end is none.
    measure(film_of(clip_path, limit=100))
    assert len(PointStore(path)) == 4


def test_other_codecs_may_refuse_a_clip_but_not_this_one(
    clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rd, "_warm_up", lambda contestant, kind: None)
    film, lines = film_of(clip_path), []
    refusing = stub(film, refuses=True)
    measured = rd.measure_points([film], [refusing], PointStore(None), on_line=lines.append)
    assert measured.points == []
    assert measured.notes == lines == ["stub is left out for pan: cannot hold it"]
    own = replace(refusing, is_own=True)
    with pytest.raises(UsageError, match="cannot hold it"):
        rd.measure_points([film], [own], PointStore(None), on_line=lines.append)


def test_stores_from_before_clips_are_read(tmp_path: Path) -> None:
    values = {"file": "a", "file_hash": "0", "codec": "jpeg", "setting": "1", "identity": "1"}
    values |= {"threads": 1, "size_bytes": 1, "network_bytes": None, "bpp": 1.0, "psnr_db": 30.0}
    values |= {"encode_s": 1.0, "decode_s": 1.0}
    path = tmp_path / "rd.json"
    path.write_text(json.dumps({"format": "modcodec bench rd 1", "points": [values]}))
    found = PointStore(str(path)).get(("0", 1, "jpeg", "1", "1"))
    assert (found.num_frames, found.frame_psnr_db) == (1, ())


def points_file(folder: Path, meta: object, name: str = "pan") -> str:
    """Points in the layout {clip: {"_meta": ..., codec: [...]}}."""
    points = [{"bpp": 0.1, "bytes": 9, "psnr": 30, "q": "33"}, {"bpp": 0.2, "psnr": 33, "q": "28"}]
    path = folder / "clips.json"
    content = {"x264-veryslow": points} | ({} if meta is None else {"_meta": meta})
    path.write_text(json.dumps({name: content}))
    return str(path)


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"frames": NUM_FRAMES}, None),
        ({"frames": 21, "w": WIDTH}, "they are of 21 frames, and 5 are compared here"),
        ({"frames": 1}, "they are of 1 frame, and"),
        (None, "they do not say of how many frames they are, and 5 are"),
    ],
    ids=["same", "other", "one", "unknown"],
)
def test_points_of_another_number_of_frames_do_not_count(
    clip_path: Path, tmp_path: Path, meta: object, words: str | None
) -> None:
    published = [read_published(points_file(tmp_path, meta))]
    options = rd.RdOptions(presets=(), rates=(1e-3,), peers=(), threads=1)
    lines: list[str] = []
    (only,) = prepare([film_of(clip_path)], options, published, anchor=None, on_line=lines.append)
    report = run_round(only, PointStore(None), command="", on_line=lines.append)
    assert report.anchor == "x264-veryslow"
    if words is None:
        assert (lines, report.codecs) == ([], ["x264-veryslow"])
        return
    assert report.codecs == []
    assert [words in line for line in lines] == [True]
    assert f"- {lines[0]}\n" in as_markdown(report)
    assert report.as_dict()["notes"] == lines


def test_points_of_clips_do_not_count_for_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "pan.png")
    (picture,) = read_inputs([str(tmp_path / "pan.png")])
    of_a_clip = read_published(points_file(tmp_path, {"frames": 5}))
    assert "they are of 5 frames" in of_a_clip.refusal(picture)
    assert read_published(points_file(tmp_path, None)).refusal(picture) is None
    assert read_published(points_file(tmp_path, {"frames": 5}, "other")).refusal(picture) is None
    with pytest.raises(InputError, match="is not of the form"):
        read_published(points_file(tmp_path, {"frames": "many"}))


def test_pictures_and_clips_are_compared_apart(clip_path: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "red.png")
    inputs = read_inputs([str(clip_path), str(tmp_path / "red.png")])
    options = rd.RdOptions(presets=(), rates=(1e-3,), peers=("x264-medium", "jpeg"), threads=1)
    if not X264.is_installed():
        pytest.skip("not part of this PyAV")
    both = prepare(inputs, options, [], anchor="x264-medium", on_line=print)
    assert [one.codecs for one in both] == [["jpeg"], ["x264-medium"]]
    assert [one.anchor for one in both] == ["avif-s0-444", "x264-medium"]
    lines: list[str] = []
    (clips,) = prepare(inputs[:1], options, [], anchor=None, on_line=lines.append)
    assert (clips.codecs, lines) == (
        ["x264-medium"],
        ["jpeg is left out: there are no pictures"],
    )
    with pytest.raises(UsageError, match="no codec 'jpeg'; here: x264-medium"):
        prepare(inputs[:1], options, [], anchor="jpeg", on_line=lines.append)


def test_the_command_compares_clips_and_pictures(
    modcodec: Run, clip_path: Path, tmp_path: Path
) -> None:
    if not X264.is_installed():
        pytest.skip("not part of this PyAV")
    with Image.open(SAMPLES / "photo.png") as image:
        image.convert("RGB").crop((100, 60, 132, 84)).save(tmp_path / "crop.png")
    line = ["bench", "rd", clip_path, "crop.png", "-p", "instant", "--rd-lambda", "1e-3"]
    line += ["--steps", "2", "--limit", "3", "--threads", "1", "--peers", "x264-medium,jpeg"]
    line += ["--anchor", "x264-medium", "--points", points_file(tmp_path, {"frames": 5})]
    done = modcodec(*line, "--json", "rd.json")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "rd.json").read_text())
    points = {(one["file"], one["codec"]): one for one in content["points"]}
    of_own, of_x264 = points["pan", "modcodec-instant"], points["pan", "x264-medium"]
    for point in (of_own, of_x264):
        assert (point["num_frames"], len(point["frame_psnr_db"])) == (3, 3)
        assert point["bpp"] == 8 * point["size_bytes"] / (3 * WIDTH * HEIGHT)
    assert 0 < of_own["network_bytes"] < of_own["size_bytes"]
    assert [one["kind"] for one in content["reports"]] == ["pictures", "clips"]
    share = 100 * of_own["network_bytes"] / of_own["size_bytes"]
    assert f"| {of_own['network_bytes']} ({share:.1f} %) |" in done.stdout
    for heading in (
        "of pictures\n",
        "of clips\n",
        "against avif-s0-444\n",
        "against x264-medium\n",
    ):
        assert heading in done.stdout
    assert "they are of 5 frames, and 3 are compared here" in done.stderr
    assert "they are of 5 frames, and 3 are compared here" in done.stdout

    resumed = modcodec(*line, "--json", "rd.json")
    assert ("lambda" not in resumed.stderr, resumed.returncode) == (True, 0)
    assert json.loads((tmp_path / "rd.json").read_text())["points"] == content["points"]


@pytest.mark.parametrize("layout", ["yuv420", "gray"])
def test_the_command_compares_clips_of_two_frames(
    layout: str, modcodec: Run, tmp_path: Path
) -> None:
    peers = [codec for codec in CLIP_CODECS if codec.name in ("x264-medium", "x265-medium")]
    if not all(codec.is_installed() for codec in peers):
        pytest.skip("not part of this PyAV")
    path = write_pan(tmp_path, PixelFormat(layout, 8))
    line = ["bench", "rd", path, "-p", "instant", "--rd-lambda", "1e-3", "--steps", "2"]
    line += ["--limit", "2", "--threads", "2", "--peers", "x264-medium,x265-medium"]
    line += ["--anchor", "x264-medium", "--json", "rd.json"]
    done = modcodec(*line, timeout=120)
    assert done.returncode == 0, done.stderr
    points = json.loads((tmp_path / "rd.json").read_text())["points"]
    expected = {"modcodec-instant": 1} | {codec.name: len(codec.values) for codec in peers}
    assert Counter(point["codec"] for point in points) == expected
    of_peers = [point for point in points if point["codec"] != "modcodec-instant"]
    assert all(len(point["frame_psnr_db"]) == 2 for point in points)
    assert all(point["psnr_db"] > 15 for point in of_peers)
