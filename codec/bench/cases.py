"""What is measured: pictures and clips, with the networks that a preset gives them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from codec.arch import Architecture, grid_shape
from codec.arch.macs import entropy_macs, synthesis_macs, temporal_macs, upsampling_macs
from codec.arch.presets import build_architectures, load_preset
from codec.bench.pictures import make_frames
from codec.errors import UsageError
from codec.media.frames import ClipInfo, Frame, PixelFormat
from codec.media.sources import open_source
from codec.segments import segment_length

STILL_FORMAT = PixelFormat("rgb", 8)
CLIP_FORMAT = PixelFormat("yuv420", 8)
CIF = (352, 288)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A picture or clip and the work that its networks make, as reports tell it.

    MACs are multiply-accumulates of the decoder a luma pixel, `latents_per_pixel` counts those of
    all grids.
    """

    is_still: bool
    width: int
    height: int
    num_frames: int
    pixel_format: str
    latents_per_pixel: float
    entropy_macs: float
    upsampling_macs: float
    temporal_macs: float
    synthesis_macs: float

    @property
    def num_pixels(self) -> int:
        """Luma pixels of all frames."""
        return self.num_frames * self.height * self.width

    @property
    def kind(self) -> str:
        """Subjects of one kind differ in size alone: "stills", "single frames", "clips"."""
        if self.is_still:
            return "stills"
        # A clip of one frame has the networks of a picture.
        return "clips" if self.num_frames > 1 else "single frames"

    @property
    def picture_macs(self) -> float:
        """MACs a pixel of everything behind the entropy model."""
        return self.upsampling_macs + self.temporal_macs + self.synthesis_macs

    @property
    def name(self) -> str:
        """For people: `768x512`, or `21 x 352x288` for a clip."""
        size = f"{self.width}x{self.height}"
        return size if self.is_still else f"{self.num_frames} x {size}"


def describe(
    arch: Architecture, info: ClipInfo, *, num_frames: int, segment_frames: int
) -> Subject:
    """The subject of `num_frames` frames in segments of `segment_frames`."""
    pixels = segment_frames * info.height * info.width
    latents = 0
    for grid in arch.grids:
        rows, columns = grid_shape(grid, info.height, info.width)
        latents += grid.num_slices(segment_frames) * rows * columns
    return Subject(
        is_still=info.is_still,
        width=info.width,
        height=info.height,
        num_frames=num_frames,
        pixel_format=f"{info.format.layout} {info.format.depth} bit",
        latents_per_pixel=latents / pixels,
        entropy_macs=entropy_macs(arch, segment_frames),
        upsampling_macs=upsampling_macs(arch, segment_frames),
        temporal_macs=temporal_macs(arch),
        synthesis_macs=synthesis_macs(arch),
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """One segment to measure: the first frames of a file, or made from a seed without one."""

    preset: str
    info: ClipInfo
    num_frames: int
    source: str | None = None

    def frames(self) -> list[Frame]:
        """The frames, read or made anew."""
        if self.source is not None:
            return list(islice(open_source(self.source).frames, self.num_frames))
        return make_frames(
            self.info.format,
            height=self.info.height,
            width=self.info.width,
            num_frames=self.num_frames,
        )

    def architecture(self) -> Architecture:
        """The networks that the preset gives it."""
        preset = load_preset(self.preset)
        return build_architectures(
            preset.image if self.num_frames == 1 else preset.clip,
            num_channels=self.info.format.num_planes,
            num_frames=self.num_frames,
            height=self.info.height,
            width=self.info.width,
        )[0]

    def subject(self) -> Subject:
        """What reports tell of it."""
        counts = {"num_frames": self.num_frames, "segment_frames": self.num_frames}
        return describe(self.architecture(), self.info, **counts)


def made_cases(
    preset: str, *, sizes: tuple[tuple[int, int], ...], frame_counts: tuple[int, ...]
) -> Iterator[Case]:
    """Stills of these sizes (width, height), and CIF clips of so many frames.

    Raises:
        UsageError: more frames than a segment holds.
    """
    for width, height in sizes:
        info = ClipInfo(STILL_FORMAT, width, height, is_still=True)
        yield Case(preset=preset, info=info, num_frames=1)
    info = ClipInfo(CLIP_FORMAT, *CIF, is_still=False)
    for count in frame_counts:
        _check_length(info, count)
        yield Case(preset=preset, info=info, num_frames=count)


def cases_of_file(preset: str, source: str, *, frame_counts: tuple[int, ...]) -> Iterator[Case]:
    """A picture, or a clip's first frames in so many cases as there are counts.

    Raises:
        InputError: the file cannot be read.
        UsageError: more frames than the file has or a segment holds.
    """
    clip = open_source(source)
    info, counts = clip.info, (1,) if clip.info.is_still else frame_counts
    there = sum(1 for _ in islice(clip.frames, max(counts, default=0)))
    for count in counts:
        _check_length(info, count)
        if count > there:
            raise UsageError(f"{source} has {there} frames, not {count}; see --frames")
        yield Case(preset=preset, info=info, num_frames=count, source=source)


def _check_length(info: ClipInfo, num_frames: int) -> None:
    longest = segment_length(info.height, info.width)
    if num_frames > longest:
        raise UsageError(
            f"a segment of {info.width}x{info.height} has at most {longest} frames, "
            f"not {num_frames}"
        )
