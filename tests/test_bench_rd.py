"""Rate and distortion: stores that resume, reports, and the command as a user runs it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from cli.bench.rd import parse_rates, shown_argument
from cli.bench.rdtables import as_markdown
from codec.bench import conventional, plot, rd
from codec.bench.contestants import Contestant, Encoded, own_contestant, peer
from codec.bench.inputs import read_inputs
from codec.bench.kinds import PICTURES
from codec.bench.points import Curves, Point, PointStore, read_published
from codec.bench.rdreport import RdReport, make_report
from codec.errors import InputError, UsageError
from codec.media.metrics import MAX_PSNR_DB, picture_psnr
from codec.options import EncodeOptions

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
SIZE = (48, 32)
Run = Callable[..., Any]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A crop of the sample photograph."""
    path = tmp_path / "crop.png"
    with Image.open(SAMPLES / "photo.png") as image:
        image.convert("RGB").crop((100, 60, 100 + SIZE[0], 60 + SIZE[1])).save(path)
    return path


class Stub:
    """A codec that cuts bits off; it counts how often it is asked."""

    def __init__(self) -> None:
        self.num_encodes = 0

    def encode(self, array: np.ndarray, bits: int) -> Encoded:
        self.num_encodes += 1
        kept = array >> (8 - bits) << (8 - bits)
        return Encoded(bytes(array.shape) + kept.tobytes() + bytes(200 * bits), 7)

    def decode(self, data: bytes) -> np.ndarray:
        shape = tuple(data[:3])
        return np.frombuffer(data[3 : 3 + math.prod(shape)], np.uint8).reshape(shape)

    def contestant(self, **changes: Any) -> Contestant:
        settings = {f"bits {bits}": bits for bits in (3, 5)}
        values = {"name": "stub", "settings": settings, "identity": "stub 1", "threads": 1}
        return Contestant(**{**values, **changes}, encode=self.encode, decode=self.decode)


def measure(picture: Path, store: PointStore, *contestants: Contestant) -> list[Point]:
    inputs = read_inputs([str(picture)])
    return rd.measure_points(inputs, contestants, store, on_line=lambda line: None).points


def point(codec: str, bpp: float, psnr_db: float, **changes: Any) -> Point:
    values = {
        "file": "crop",
        "file_hash": "0",
        "setting": f"lambda {bpp}",
        "identity": "1",
        "threads": 2,
        "size_bytes": 100,
        "network_bytes": 30,
        "encode_s": 60.0,
        "decode_s": 0.0123,
    }
    return Point(codec=codec, bpp=bpp, psnr_db=psnr_db, **{**values, **changes})


def report_of(picture: Path, points: list[Point], published: Curves) -> RdReport:
    own = Stub().contestant(name="ours", is_own=True)
    inputs = read_inputs([str(picture)])
    return make_report(
        points, inputs, [own], [published], anchor="theirs", command="modcodec bench rd crop.png"
    )


def test_points_are_measured_on_the_file(picture: Path) -> None:
    array = np.asarray(Image.open(picture))
    first, second = measure(picture, PointStore(None), Stub().contestant())
    assert (first.setting, second.setting) == ("bits 3", "bits 5")
    assert first.size_bytes == 3 + array.size + 600
    assert first.bpp == 8 * first.size_bytes / (SIZE[0] * SIZE[1])
    errors = (array.astype(float) - (array >> 5 << 5)) ** 2
    assert first.psnr_db == pytest.approx(10 * math.log10(255**2 / errors.mean()))
    assert min(first.encode_s, first.decode_s) > 0
    assert (first.file, first.network_bytes) == ("crop", 7)


def test_a_store_resumes_what_is_the_same(picture: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "rd.json")
    stub = Stub()
    made = measure(picture, PointStore(path), stub.contestant())
    assert stub.num_encodes == 3  # one more to warm up
    again = measure(picture, PointStore(path), stub.contestant())
    assert (again, stub.num_encodes) == (made, 3)
    renamed = picture.rename(tmp_path / "renamed.png")
    (found, _) = measure(renamed, PointStore(path), stub.contestant())
    assert (found.file, stub.num_encodes) == ("renamed", 3)

    measure(renamed, PointStore(path), stub.contestant(settings={"bits 3": 3, "bits 4": 4}))
    assert stub.num_encodes == 5
    measure(renamed, PointStore(path), stub.contestant(identity="stub 2"))
    assert stub.num_encodes == 8
    Image.new("RGB", SIZE, "red").save(renamed)
    measure(renamed, PointStore(path), stub.contestant())
    assert stub.num_encodes == 11
    assert len(PointStore(path)) == 7


def test_what_was_measured_survives_an_interruption(picture: Path, tmp_path: Path) -> None:
    path, stub = str(tmp_path / "rd.json"), Stub()
    broken = stub.contestant(settings={"bits 3": 3, "bits 5": 5, "bits x": None})
    with pytest.raises(TypeError):
        measure(picture, PointStore(path), broken)
    assert len(PointStore(path)) == 2
    assert list(tmp_path.glob("*part*")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "no file of `modcodec bench rd`"),
        ('{"format": "modcodec bench rd 1", "points": [{}]}', "not complete"),
    ],
)
def test_other_files_are_not_taken_for_a_store(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        PointStore(str(path))
    assert path.read_text() == text


def test_published_points(tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    points = [{"bpp": 0.5, "psnr": 30, "s": 1.5}, {"bpp": 1, "psnr": 35}]
    path.write_text(json.dumps({"crop": {"x": points, "_meta": {"w": 3}}, "_about": "words"}))
    found = read_published(str(path))
    assert (found.name, found.curves) == ("points.json", {"crop": {"x": [(0.5, 30), (1, 35)]}})
    bad_points = ({"bpp": 1}, {"bpp": 0, "psnr": 30})
    bad_files = ({"x": [bad_points[0]]}, {"x": [bad_points[1]]}, {"_meta": 3}, [1])
    for bad in ([1], *({"crop": content} for content in bad_files)):
        path.write_text(json.dumps(bad))
        with pytest.raises(InputError, match="is not of the form"):
            read_published(str(path))


def test_reports_tell_where_the_anchor_is_better(picture: Path) -> None:
    bpps_and_psnrs = [(0.05, 25), (0.2, 29), (0.6, 33), (1.2, 35), (1.4, 41), (1.6, 39)]
    ours = [point("ours", *pair) for pair in bpps_and_psnrs]
    theirs = [(0.25, 30.0), (0.5, 33.0), (1.0, 36.0), (2.0, 40.0)]
    report = report_of(picture, ours, {"crop": {"theirs": theirs}, "absent": {"more": [(1, 30)]}})
    assert report.codecs == ["ours", "theirs"]
    # 0.05 and 1.6 bpp are out of what is checked; 29 and 41 dB are not on the anchor's curve.
    assert [one.point.bpp for one in report.behind] == [0.6, 1.2]
    assert report.behind[0].anchor_bpp == pytest.approx(0.5)
    assert report.num_checked == 2
    assert [one.bpp for one in report.unchecked] == [0.2, 1.4]
    assert report.bd_rates["ours"]["crop"].low_db == 30
    assert report.mean_bd_rate("theirs") == (pytest.approx(0), 1)

    worst = report_of(picture, [point("ours", 0.3, 20)], {"crop": {"theirs": theirs}})
    assert [one.anchor_bpp for one in worst.behind] == [pytest.approx(0.25)]
    json.dumps(report.as_dict(), allow_nan=False)


def test_tables_say_it_all(picture: Path) -> None:
    theirs = [(0.5, 30.0), (1.0, 34.0)]
    ours = [point("ours", 0.25, 30), point("ours", 0.5, 34)]
    text = as_markdown(report_of(picture, ours, {"crop": {"theirs": theirs}}))
    assert "    modcodec bench rd crop.png\n" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in (
        "| crop | -50.0 % |",
        "| mean | -50.0 % (1) |",
        "| crop | 30.0 to 34.0 |",
        "| ours | lambda 0.25 | 1 | 0.2500 | 30.00 dB | 100 | 30 | 60.00 s | 12.3 ms |",
        "- ours: stub 1",
    ):
        assert line in lines
    assert "0 of 2 points between 0.1 and 1.5 bpp need more rate" in text
    assert "theirs" in lines[-1]

    text = as_markdown(report_of(picture, ours, {}))
    assert "There are no points of theirs." in text
    assert text.count("not checked: crop ours lambda 0.25, crop ours lambda 0.5") == 1
    worse = [point("ours", 0.75, 30), point("ours", 1.5, 34)]
    text = as_markdown(report_of(picture, worse, {"crop": {"theirs": theirs}}))
    assert "2 of 2 points" in text
    assert text.count("+50.0 %") == 4


def test_points_measured_here_go_before_published_ones(picture: Path) -> None:
    ours = [point("ours", 0.25, 30), point("ours", 0.5, 34)]
    published = {"crop": {"ours": [(7, 30.0)], "lossless": [(9, MAX_PSNR_DB)]}}
    report = report_of(picture, ours, published)
    assert report.curves["crop"]["ours"].rate_at(30) == pytest.approx(0.25)
    assert report.published == ["lossless"]
    assert "lossless" not in report.curves["crop"]


def test_inputs_that_cannot_be_compared(picture: Path, tmp_path: Path) -> None:
    Image.new("RGBA", SIZE, (1, 2, 3, 4)).save(tmp_path / "alpha.png")
    for source, message in (
        (str(tmp_path / "alpha.png"), "alpha.png: .*without alpha"),
        (str(picture), "two inputs are named crop"),
    ):
        with pytest.raises(UsageError, match=message):
            read_inputs([str(picture), source])


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("codec", conventional.STILL_CODECS, ids=lambda codec: codec.name)
def test_conventional_codecs(codec: conventional.StillCodec, mode: str, picture: Path) -> None:
    if not codec.is_installed():
        pytest.skip("not installed")
    array = np.asarray(Image.open(picture).convert(mode))
    contestant = peer(codec.name, 1)
    points = []
    for value in (codec.values[1], codec.values[-2]):
        data = contestant.encode(array, value).data
        points.append((len(data), picture_psnr(array, contestant.decode(data))))
    (small, bad), (large, good) = points
    assert small < large
    assert 20 < bad < good - 5
    assert len(contestant.settings) == len(codec.values)


def test_identities_tell_presets_apart(tmp_path: Path) -> None:
    settings = {"lambda 0.001": EncodeOptions(rd_lambda=1e-3, threads=1, device="cpu")}
    text = (SAMPLES.parent / "configs" / "instant.toml").read_text()
    copy = tmp_path / "mine.toml"
    copy.write_text(text)
    instant, same = own_contestant("instant", settings), own_contestant(str(copy), settings)
    assert (instant.name, same.name) == ("modcodec-instant", "modcodec-mine")
    assert instant.identity == same.identity
    assert own_contestant("fast", settings).identity != instant.identity
    seeded = {"lambda 0.001": EncodeOptions(rd_lambda=1e-3, threads=1, device="cpu", seed=1)}
    assert own_contestant("instant", seeded).identity != instant.identity


def test_rates_and_words_of_the_command_line() -> None:
    assert parse_rates("1e-3,2e-3", None) == (1e-3, 2e-3)
    assert parse_rates(None, "40") == (40,)
    assert len(parse_rates(None, None)) == 4
    for rd_lambda, quality in (("1", "2"), ("1,x", None), ("1e-3,0.001", None)):
        with pytest.raises(UsageError):
            parse_rates(rd_lambda, quality)
    assert shown_argument("/some/where/a.png") == "a.png"
    assert shown_argument("--json=/some/where/a.json") == "--json=a.json"
    assert shown_argument("--steps") == "--steps"


def test_the_command_measures_and_resumes(modcodec: Run, picture: Path, tmp_path: Path) -> None:
    line = ["bench", "rd", picture, "-p", "instant", "--rd-lambda", "1e-3", "--steps", "3"]
    line += ["--threads", "1", "--peers", "jpeg,webp", "--json", "rd.json"]
    done = modcodec(*line)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "rd.json").read_text())
    (own,) = (one for one in content["points"] if one["codec"] == "modcodec-instant")
    assert 0 < own["network_bytes"] < own["size_bytes"]
    assert "19/19 crop, modcodec-instant, lambda 0.001: " in done.stderr
    assert str(tmp_path) not in done.stdout + json.dumps(content)

    resumed = modcodec(*line, "--anchor", "jpeg", "--markdown", "rd.md")
    assert resumed.returncode == 0, resumed.stderr
    assert "crop" not in resumed.stderr
    assert json.loads((tmp_path / "rd.json").read_text())["points"] == content["points"]
    assert (tmp_path / "rd.md").read_text() == resumed.stdout
    assert "BD-rate against jpeg" in resumed.stdout
    refused = modcodec(*line, "--markdown", "rd.md")
    assert (refused.returncode, "rd.md: exists already" in refused.stderr) == (4, True)


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        (["--peers", "gif"], 2, "no peer 'gif'; known: jpeg, webp"),
        (["--peers", "jpeg", "--anchor", "gif"], 2, "no codec 'gif'; here: modcodec-fast, jpeg"),
        (["-p", "fast", "-p", "fast"], 2, "two presets are called modcodec-fast"),
        (["-q", "200", "--peers", "none"], 2, "quality must be from 0 to 100"),
        (["--points", "missing.json"], 3, "missing.json: no such file"),
        (["--markdown", "missing/rd.md"], 4, "there is no folder missing"),
    ],
    ids=lambda value: value[0].lstrip("-") if isinstance(value, list) else "",
)
def test_mistakes_are_told_before_the_work(
    modcodec: Run, picture: Path, options: list[str], exit_code: int, message: str
) -> None:
    done = modcodec("bench", "rd", picture, *options)
    assert message in done.stderr
    assert done.returncode == exit_code


def test_plots_need_matplotlib_and_a_name_for_their_kind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match="must end in one of"):
        plot.check_plot(str(tmp_path / "rd.gif"))
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"modcodec\[bench\]"):
        plot.check_plot(str(tmp_path / "rd.png"))


@pytest.mark.parametrize("suffix", plot.SUFFIXES)
def test_plots_are_pictures(picture: Path, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    ours = [point("ours", 0.25, 30), point("ours", 0.5, 34)]
    report = report_of(picture, ours, {"crop": {"theirs": [(0.5, 30.0)]}})
    path = tmp_path / f"rd{suffix}"
    plot.write_plot(path, [report])
    if suffix == ".png":
        with Image.open(path) as image:
            assert min(image.size) > 300
    else:
        assert path.stat().st_size > 1000


@pytest.mark.parametrize("highest_bpp", [0.5, 1.5, 4.0])
def test_rates_in_plots_are_plain_numbers(
    picture: Path, tmp_path: Path, highest_bpp: float
) -> None:
    pytest.importorskip("matplotlib")
    ours = [point("ours", 0.15, 30), point("ours", highest_bpp, 34)]
    report = report_of(picture, ours, {"crop": {"theirs": [(0.5, 30.0)]}})
    path = tmp_path / "rd.svg"
    plot.write_plot(path, [report])
    axis = path.read_text().split('id="matplotlib.axis_1"')[1].split('id="matplotlib.axis_2"')[0]
    # Texts are drawn as paths, and said in comments.
    numbers = re.findall(r"<!-- (.+) -->", axis)[:-1]
    wanted = ["0.2", "0.5", "1", "2"]
    assert numbers == [n for n in wanted if float(n) <= highest_bpp]


def test_what_is_not_installed_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_jxl(name: str) -> object:
        return None if name == "imagecodecs" else find_spec(name)

    monkeypatch.setattr(conventional, "find_spec", without_jxl)
    lines: list[str] = []
    options: Mapping[str, Any] = {"presets": (), "rates": (1e-3,), "threads": 1}
    found = rd.choose_contestants(rd.RdOptions(**options), PICTURES, lines.append)
    assert "jxl-e7" not in [one.name for one in found]
    assert ["modcodec[bench]" in line for line in lines if line.startswith("jxl-e7")] == [True]
    assert ("avif-s0-444" in [one.name for one in found]) == features.check("avif")
    with pytest.raises(UsageError, match=r"jxl-e7 is not installed; .*modcodec\[bench\]"):
        rd.choose_contestants(rd.RdOptions(**options, peers=("jxl-e7",)), PICTURES, lines.append)
