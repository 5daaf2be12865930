"""The whole chain through the command line: what is decoded is what the encoder reported."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import codec

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "samples" / "tiny_63x47.y4m"
NUM_FRAMES = 3
QUICK = ("-p", "instant", "--steps", "12", "-q", "95", "--json", "--progress", "none")

Run = Callable[..., subprocess.CompletedProcess]


class Coded(NamedTuple):
    """An input, its stream, and what the encoder reported."""

    source: Path
    path: Path
    report: dict


def _photo(folder: Path) -> Path:
    """A cut of the sample photograph, 37x26."""
    path = folder / "photo.png"
    Image.open(ROOT / "samples" / "photo.png").crop((130, 80, 167, 106)).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("coded")


def _encode(command: list[str], environment: dict[str, str], *arguments: object) -> dict:
    done = subprocess.run(
        [*command, "encode", *map(str, arguments), *QUICK],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def still(folder: Path, cli_command: list[str], cli_environment: dict[str, str]) -> Coded:
    source = _photo(folder)
    report = _encode(cli_command, cli_environment, source)
    return Coded(source, folder / "photo.modc", report)


@pytest.fixture(scope="module")
def clip(folder: Path, cli_command: list[str], cli_environment: dict[str, str]) -> Coded:
    path = folder / "clip.modc"
    options = ("-o", path, "--limit", NUM_FRAMES, "--threads", 2)
    report = _encode(cli_command, cli_environment, CLIP, *options)
    return Coded(CLIP, path, report)


def _samples(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def _frames_of_y4m(data: bytes) -> list[bytes]:
    header, _, rest = data.partition(b"\n")
    assert header.startswith(b"YUV4MPEG2 W63 H47 ")
    size = 63 * 47 + 2 * 32 * 24
    assert len(rest) % (size + 6) == 0
    return [rest[at + 6 : at + 6 + size] for at in range(0, len(rest), size + 6)]


def _yuv_mse(reference: bytes, test: bytes) -> float:
    difference = np.frombuffer(reference, np.uint8).astype(float) - np.frombuffer(test, np.uint8)
    luma, u, v = np.split(difference**2, [63 * 47, 63 * 47 + 32 * 24])
    return (4 * luma.mean() + u.mean() + v.mean()) / 6


def _psnr(mse: float) -> float:
    return 10 * math.log10(255**2 / mse)


def test_a_picture_comes_back_as_reported(still: Coded, modcodec: Run, tmp_path: Path) -> None:
    report = still.report
    done = modcodec("decode", still.path, "-o", tmp_path / "back.png")
    assert done.returncode == 0, done.stderr
    back = _samples(tmp_path / "back.png")
    planes = b"".join(np.ascontiguousarray(back[..., c]).tobytes() for c in range(3))
    assert report["frame_hashes"] == [f"{zlib.crc32(planes):08x}"]
    mse = np.mean((back.astype(float) - _samples(still.source)) ** 2)
    assert report["psnr_db"] == pytest.approx(_psnr(mse), abs=0.001)
    assert report["size_bytes"] == still.path.stat().st_size
    assert report["bpp"] == pytest.approx(8 * report["size_bytes"] / (37 * 26))
    assert report["output"] == str(still.path)
    fixed_bytes = report["size_bytes"] - report["network_bytes"] - report["latent_bytes"]
    assert fixed_bytes <= 32


def test_a_clip_comes_back_as_reported(clip: Coded, modcodec: Run) -> None:
    report = clip.report
    done = modcodec("decode", clip.path, "-o", "-", text=False)
    assert done.returncode == 0, done.stderr
    frames = _frames_of_y4m(done.stdout)
    assert [f"{zlib.crc32(frame):08x}" for frame in frames] == report["frame_hashes"]
    assert len(set(frames)) == NUM_FRAMES
    pairs = zip(_frames_of_y4m(clip.source.read_bytes()), frames, strict=False)
    errors = [_yuv_mse(*pair) for pair in pairs]
    assert len(errors) == report["num_frames"] == NUM_FRAMES
    assert report["psnr_db"] == pytest.approx(_psnr(np.mean(errors)), abs=0.001)
    assert report["frame_psnr_db"] == pytest.approx(list(map(_psnr, errors)), abs=0.001)
    fixed_bytes = report["size_bytes"] - report["network_bytes"] - report["latent_bytes"]
    assert fixed_bytes <= 32 + 24 + 6 * NUM_FRAMES


def test_pipes_give_the_same_file(
    clip: Coded, cli_command: list[str], cli_environment: dict[str, str]
) -> None:
    arguments = ["encode", "-", "-o", "-", "--limit", str(NUM_FRAMES), "--threads", "2", *QUICK]
    with clip.source.open("rb") as source:
        done = subprocess.run(
            [*cli_command, *arguments],
            stdin=source,
            env=cli_environment,
            capture_output=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == clip.path.read_bytes()
    assert json.loads(done.stderr)["frame_hashes"] == clip.report["frame_hashes"]


def test_decoding_is_the_same_with_any_threads_and_in_part(clip: Coded, modcodec: Run) -> None:
    whole, single, part = (
        modcodec("decode", "-", "-o", "-", *options, text=False, input=clip.path.read_bytes())
        for options in (("--threads", "2"), ("--threads", "1"), ("--frames", "1:2"))
    )
    assert single.stdout == whole.stdout
    assert _frames_of_y4m(part.stdout) == _frames_of_y4m(whole.stdout)[1:2]


def test_decoding_a_file_does_not_import_torch(
    still: Coded, clip: Coded, cli_environment: dict[str, str], tmp_path: Path
) -> None:
    program = (
        "import sys, codec\n"
        "for path in sys.argv[1:]:\n"
        "    codec.info(path), codec.verify(path), codec.decode(path)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(still.path), str(clip.path)],
        env=cli_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_outputs_by_name(still: Coded, clip: Coded, modcodec: Run, tmp_path: Path) -> None:
    for coded in (still, clip):
        shutil.copy(coded.path, tmp_path)
    done = modcodec("decode", "photo.modc", "clip.modc")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "photo.png").is_file()
    assert codec.compare(clip.path, tmp_path / "clip.mkv").psnr_db == 99
    done = modcodec("decode", "clip.modc", "-o", "f%02d.png")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("f*")) == ["f01.png", "f02.png", "f03.png"]


def test_decode_tells_start_up_apart(still: Coded, modcodec: Run) -> None:
    told = json.loads(modcodec("decode", "--json", still.path, "-o", "again.png").stdout)
    assert told["num_frames"] == 1
    assert told["startup_seconds"] > 0
    assert told["seconds"] > 0


def test_info_verify_and_compare_tell_the_same(still: Coded, clip: Coded, modcodec: Run) -> None:
    infos = json.loads(modcodec("info", "--json", still.path, clip.path).stdout)
    for coded, told in zip((still, clip), infos, strict=True):
        assert told["size_bytes"] == coded.report["size_bytes"]
        assert told["latent_bytes"] == coded.report["latent_bytes"]
        assert told["num_frames"] == coded.report["num_frames"]
        assert told["is_still"] == (coded is still)
    text = modcodec("info", "-v", clip.path).stdout
    assert "clip of 3 frames, 63x47, yuv420 8 bit" in text
    verified = modcodec("verify", "--json", clip.path)
    assert json.loads(verified.stdout)["num_frames"] == NUM_FRAMES
    compared = json.loads(
        modcodec("compare", "--json", "--limit", NUM_FRAMES, clip.source, clip.path).stdout
    )
    assert compared["psnr_db"] == pytest.approx(clip.report["psnr_db"])
    assert compared["test_bytes"] == clip.report["size_bytes"]


def test_peers_fit_into_the_size(still: Coded, modcodec: Run) -> None:
    done = modcodec("compare", "--peers", "--json", still.source, still.path)
    peers = {peer["name"]: peer for peer in json.loads(done.stdout)["peers"]}
    assert set(peers) == {"JPEG", "WebP", "AVIF"}
    for peer in peers.values():
        assert (peer["size_bytes"] is None) == (peer["psnr_db"] is None)
        assert peer["size_bytes"] is None or peer["size_bytes"] <= still.report["size_bytes"]
    assert any(peer["size_bytes"] for peer in peers.values())


def test_arrays_through_the_library(still: Coded) -> None:
    array = _samples(still.source)
    report = codec.encode(array, preset="instant", steps=12, quality=95)
    assert report.data == still.path.read_bytes()
    back = codec.decode(report.data)
    assert back.shape == array.shape
    assert back.dtype == np.uint8
    assert codec.compare(array, report.data).psnr_db == pytest.approx(report.psnr_db)
    assert codec.info(report.data).size_bytes == report.size_bytes == len(report.data)
