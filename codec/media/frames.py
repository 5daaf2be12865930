"""What a picture or a clip is: planes of integer samples, their format, colour and timing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

LAYOUTS = ("gray", "rgb", "yuv420", "yuv422", "yuv444")
DEPTHS = (8, 10, 12, 16)
MAX_CODED_DEPTH = 14


@dataclass(frozen=True)
class PixelFormat:
    """Planes of a picture: `layout` of LAYOUTS, `depth` bits a sample, alpha as the last plane."""

    layout: str
    depth: int
    alpha: bool = False

    @property
    def peak(self) -> int:
        """Largest sample value, 2^depth - 1."""
        return (1 << self.depth) - 1

    @property
    def coded_depth(self) -> int:
        """Bits a sample inside the codec: deeper samples are coded at 14 bits and rescaled."""
        return min(self.depth, MAX_CODED_DEPTH)

    @property
    def num_planes(self) -> int:
        """Planes of one frame, alpha included."""
        return (1 if self.layout == "gray" else 3) + self.alpha

    @property
    def dtype(self) -> type:
        """Numpy type of a plane: uint8 to 8 bits, uint16 above."""
        return np.uint8 if self.depth <= 8 else np.uint16

    @property
    def chroma_shifts(self) -> tuple[int, int]:
        """(vertical, horizontal) log2 subsampling of planes 1 and 2."""
        return {"yuv420": (1, 1), "yuv422": (0, 1)}.get(self.layout, (0, 0))

    def plane_shapes(self, height: int, width: int) -> list[tuple[int, int]]:
        """(height, width) of each plane; odd sizes round up."""
        down_y, down_x = self.chroma_shifts
        chroma = (-(-height >> down_y), -(-width >> down_x))
        shapes = [(height, width)] + [chroma] * (0 if self.layout == "gray" else 2)
        return shapes + [(height, width)] * self.alpha


@dataclass(frozen=True)
class Colour:
    """Code points of ITU-T H.273 (2 = unspecified), range, chroma sample location (0 = unknown).

    `chroma_location` counts as in H.273 plus one: 1 left, 2 centre, 3 top left, 4 top, ...
    """

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    full_range: bool = False
    chroma_location: int = 0


@dataclass(frozen=True)
class ClipInfo:
    """Everything about a picture or clip that is not samples.

    `time_base` is the length of one PTS tick in seconds, `frame_ticks` the nominal duration of a
    frame in ticks, `pixel_aspect` the shape of one sample (width : height), `rotation` the
    clockwise display rotation in degrees. A still has `is_still` set; its timing is meaningless.
    """

    format: PixelFormat
    width: int
    height: int
    is_still: bool
    colour: Colour = Colour()
    time_base: Fraction = Fraction(1, 25)
    frame_ticks: int = 1
    pixel_aspect: Fraction = Fraction(1, 1)
    rotation: int = 0


@dataclass(frozen=True)
class Frame:
    """One picture: planes in the order of its format, each (height, width), uint8 or uint16."""

    planes: tuple[np.ndarray, ...]
    pts_ticks: int = 0


@dataclass(frozen=True)
class AudioTrack:
    """A compressed audio stream as its source had it: codec name, parameters, and packets.

    A packet is (pts_ticks, duration_ticks, payload) in units of `time_base`.
    """

    codec: str
    sample_rate: int
    layout: str
    time_base: Fraction
    extradata: bytes
    packets: tuple[tuple[int, int, bytes], ...]


@dataclass(frozen=True)
class Clip:
    """A source opened for reading: `frames` can be iterated once.

    `num_frames` is None where only reading to the end can tell; `expected_frames` is then what the
    container promises, if anything. `metadata` holds 'icc', 'exif' (the bare TIFF block) and 'xmp'.
    `notes` are sentences about what was converted or left out.
    """

    info: ClipInfo
    frames: Iterator[Frame]
    num_frames: int | None = None
    metadata: dict[str, bytes] = field(default_factory=dict)
    audio: AudioTrack | None = None
    notes: tuple[str, ...] = ()
    expected_frames: int | None = None
