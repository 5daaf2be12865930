"""The whole picture path: against the plain twin, on all thread counts, with and without AVX."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from fixedpoint_networks import (
    CLIP,
    MOVING,
    architecture,
    random_codes,
    random_latents,
    random_network,
)

from codec.arch import NARROW, WIDE, Architecture, Numerics
from codec.bitstream.elements import Partition
from codec.fixedpoint.entropy import decode_latents, encode_latents
from codec.fixedpoint.pictures import frames_from_channels
from codec.fixedpoint.program import load_network
from codec.fixedpoint.render import frame_noise, make_scene, render
from codec.fixedpoint.render_reference import channel_levels_reference, render_reference
from codec.fixedpoint.stack import channel_levels
from codec.fixedpoint.synthesis import synthesise
from codec.media.frames import PixelFormat

ARCHITECTURES = {
    "still": architecture(),
    "still with noise": architecture(static="0-4", common_randomness=True, up_taps=4, pre_taps=3),
    "still with differences": architecture(
        synthesis=("X-1-linear-none", "X-3-difference-relu", "X-5-difference-none")
    ),
    "no fine grid": architecture(static="2-3", ifce_features=0),
    "clip": CLIP,
    "clip with noise": architecture(
        static="1-3",
        slow="4:0-3",
        dynamic="0,2",
        temporal=("5-3x1-ck-none@1/4",),
        synthesis=("X-3-linear-none",),
        common_randomness=True,
    ),
    "temporal at full resolution": architecture(
        static="0,2",
        dynamic="0,1",
        temporal=("3-3x1-conv-none@1/2", "5-3x3-conv-relu"),
        synthesis=("X-1-linear-none",),
    ),
    "clip without temporal layers": architecture(static="0", slow="2:1-2", dynamic="2", hyper="2"),
}
PINNED = "055ac55dbfb959891a31c1f32761f33809ab980fe1f148cface9c60acb7229a6"
SIZES = [(1, 1, 1), (1, 23, 17), (5, 1, 13), (5, 30, 41), (3, 16, 32)]


def rendered(
    arch: Architecture, numerics: Numerics, frames: int, height: int, width: int, threads: int
) -> np.ndarray:
    size = {"num_frames": frames, "height": height, "width": width}
    program = load_network(random_network(arch, numerics, seed=4, magnitude=120), numerics)
    latents = random_latents(arch, **size, seed=8, limit=255)
    codes = random_codes(arch, num_frames=frames, seed=3)
    return np.stack(list(render(program, latents, codes, **size, noise_seed=77, threads=threads)))


@pytest.mark.parametrize("numerics", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_rendering(name: str, size: tuple[int, int, int], numerics: Numerics) -> None:
    arch, (frames, height, width) = ARCHITECTURES[name], size
    network = random_network(arch, numerics, seed=4, magnitude=120)
    latents = random_latents(arch, num_frames=frames, height=height, width=width, seed=8, limit=255)
    latents[-1][...] = 0
    codes = random_codes(arch, num_frames=frames, seed=3)
    arguments = {"num_frames": frames, "height": height, "width": width, "noise_seed": 9}
    made = render(load_network(network, numerics), latents, codes, **arguments, threads=2)
    twin = render_reference(network, latents, codes, **arguments, numerics=numerics)
    assert np.array_equal(np.stack(list(made)), twin)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_levels_of_the_channels(name: str) -> None:
    arch = ARCHITECTURES[name]
    assert list(channel_levels(arch)) == channel_levels_reference(arch)
    assert len(channel_levels(arch)) == arch.num_features


def test_threads_change_nothing() -> None:
    one, two = (rendered(CLIP, NARROW, 4, 70, 300, threads) for threads in (1, 2))
    assert np.unique(one).size > 100
    assert np.array_equal(one, two)


def test_stages_add_up_to_rendering() -> None:
    arch = ARCHITECTURES["clip with noise"]
    size = {"num_frames": 3, "height": 20, "width": 14}
    program = load_network(random_network(arch, NARROW, seed=4), NARROW)
    latents = random_latents(arch, **size, seed=1)
    made = list(render(program, latents, {}, **size, noise_seed=5))
    scene = make_scene(program, latents, {}, **size)
    for t in range(3):
        feature = scene.features_at(t, 1)
        noise = frame_noise(program, seed=5, frame=t, height=20, width=14)
        channels = synthesise(program, feature.planes, feature.active, noise=noise)
        assert np.array_equal(channels, made[t])


def test_a_slice_is_made_once_for_all_its_frames() -> None:
    arch = architecture(static="0-2", hyper="2")
    size = {"num_frames": 3, "height": 9, "width": 9}
    program = load_network(random_network(arch, NARROW, seed=4), NARROW)
    scene = make_scene(program, random_latents(arch, **size, seed=1), {}, **size)
    first, *others = (scene.features_at(t, 1) for t in range(3))
    assert all(
        other.planes is first.planes or other.planes.base is first.planes.base for other in others
    )


def decoder_digest() -> str:
    """A hash over substreams and pictures of clips, narrow and wide."""
    digest = hashlib.sha256()
    size = {"num_frames": 3, "height": 37, "width": 70}
    for arch, (numerics, depth) in product((CLIP, MOVING), ((NARROW, 8), (WIDE, 12))):
        program = load_network(random_network(arch, numerics, seed=4, magnitude=120), numerics)
        latents, codes = (
            random_latents(arch, **size, seed=8),
            random_codes(arch, num_frames=3, seed=3),
        )
        partition = Partition(bands=2)
        present, substreams = encode_latents(program, latents, **size, partition=partition)
        digest.update(b"".join(substreams))
        decoded = decode_latents(program, present, substreams, **size, partition=partition)
        for channels in render(program, decoded, codes, **size):
            pixel_format = PixelFormat("yuv420", depth)
            for plane in frames_from_channels(channels, pixel_format, numerics=numerics):
                digest.update(plane.tobytes())
    return digest.hexdigest()


def test_the_program_is_pinned() -> None:
    # A change of this value is a change of the format: old streams would decode to other pictures.
    assert decoder_digest() == PINNED


@pytest.mark.slow
def test_a_processor_without_vector_extensions_gives_the_same(tmp_path: Path) -> None:
    tests = Path(__file__).resolve().parent
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "generic",
        "MODCODEC_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)]),
    }
    program = "import test_fixedpoint_render as t; print(t.decoder_digest())"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == PINNED
