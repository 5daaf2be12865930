"""Golden streams: what every decoder of version 3 shows for them, to the last bit."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest

from codec.bitstream.reader import StreamReader
from codec.decoder import open_stream

FOLDER = Path(__file__).resolve().parent / "golden"
DIGESTS: dict[str, list[str]] = json.loads((FOLDER / "frames.json").read_text(encoding="utf-8"))


def test_every_golden_stream_has_its_hashes_and_is_small():
    streams = sorted(FOLDER.glob("*.modc"))
    assert [path.stem for path in streams] == sorted(DIGESTS)
    assert len(streams) == 7
    assert all(path.stat().st_size < 4096 for path in streams)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_golden_streams_decode_to_their_hashes(name, threads):
    frames = open_stream((FOLDER / f"{name}.modc").read_bytes(), threads=threads).frames()
    found = []
    for frame in frames:
        digest = hashlib.sha256()
        for plane in frame.planes:
            digest.update(plane.astype("<u2" if plane.dtype.itemsize == 2 else "u1").tobytes())
        found.append(digest.hexdigest())
    assert found == DIGESTS[name]


def test_golden_streams_use_what_the_version_has():
    """Grids, layers, partitions and networks of every kind are in one of them."""
    kinds, strides, partitions, formats, shapes = set(), set(), set(), set(), set()
    for name in DIGESTS:
        reader = StreamReader(io.BytesIO((FOLDER / f"{name}.modc").read_bytes()))
        formats.add(reader.info.format)
        for segment in reader.segments():
            network = reader.network(segment.network_id)
            arch = network.arch
            layers = (*arch.temporal, *arch.synthesis)
            kinds |= {layer.kind for layer in layers}
            kinds |= {key for layer in layers for key in ("res", "gate", "code", "causal")
                      if getattr(layer, key)}  # fmt: skip
            kinds |= {"noise"} if arch.common_randomness else set()
            kinds |= {"ifce"} if arch.ifce_features else set()
            kinds |= {"rectangle"} if segment.rect[3] < reader.info.width else set()
            kinds |= {"motion"} if arch.has_motion else set()
            kinds |= {"absent"} if not all(segment.grid_present) else set()
            strides |= {(grid.time_stride, grid.hyper) for grid in arch.grids}
            partitions.add((segment.partition.split_frames, segment.partition.bands))
            shapes.add((arch.up_taps, arch.pre_taps, arch.arm_layers))
    assert kinds == {
        "linear", "residual", "difference", "adaptive", "ck", "conv", "res", "gate", "code",
        "causal", "noise", "ifce", "absent", "rectangle", "motion",
    }  # fmt: skip
    assert strides == {(0, False), (0, True), (1, False), (1, True), (2, False), (4, False)}
    assert partitions == {(False, 1), (True, 2)}
    assert len(shapes) == 4
    assert {(f.layout, f.depth, f.alpha) for f in formats} == {
        ("rgb", 8, False), ("rgb", 16, True), ("yuv420", 8, False), ("yuv420", 10, False),
        ("yuv422", 8, False),
    }  # fmt: skip
