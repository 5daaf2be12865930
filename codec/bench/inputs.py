"""What is compared: pictures and clips, read whole, and how far what came back is from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from codec.bench.conventional import eight_bit_array
from codec.bench.kinds import CLIPS, PICTURES, Kind
from codec.errors import InputError, UsageError
from codec.media.files import checked_input
from codec.media.frames import Clip, ClipInfo, Frame
from codec.media.metrics import frame_mse, picture_psnr, psnr_from_mse, sequence_psnr
from codec.media.sources import open_source


@dataclass(frozen=True)
class Picture:
    """An input: the stem of its name, its samples as `eight_bit_array` gives them, its hash."""

    name: str
    array: np.ndarray
    file_hash: str
    num_frames: int = 1
    kind: Kind = PICTURES

    @property
    def num_pixels(self) -> int:
        """Width times height."""
        return self.array.shape[0] * self.array.shape[1]

    @property
    def content(self) -> np.ndarray:
        """What contestants encode."""
        return self.array

    def psnr_of(self, decoded: np.ndarray) -> tuple[float, tuple[float, ...]]:
        """PSNR in dB of what was decoded, over RGB samples, and of each frame: there are none."""
        return picture_psnr(self.array, decoded), ()


@dataclass(frozen=True)
class Film:
    """A clip as an input: the frames that are compared, all of them in memory."""

    name: str
    info: ClipInfo
    frames: tuple[Frame, ...]
    file_hash: str
    kind: Kind = CLIPS

    @property
    def num_frames(self) -> int:
        """Frames that are compared."""
        return len(self.frames)

    @property
    def num_pixels(self) -> int:
        """Luma pixels of all frames."""
        return self.num_frames * self.info.height * self.info.width

    @property
    def content(self) -> Clip:
        """What contestants encode: no sound and no metadata; opened anew each time."""
        return Clip(self.info, iter(self.frames), self.num_frames)

    def psnr_of(self, decoded: Sequence[Frame]) -> tuple[float, tuple[float, ...]]:
        """PSNR in dB of the mean error of what was decoded, and PSNR of each frame.

        Raises:
            UsageError: it has more frames, or fewer.
        """
        if len(decoded) != self.num_frames:
            raise UsageError(f"{len(decoded)} frames came back of {self.num_frames}")
        pairs = zip(self.frames, decoded, strict=True)
        errors = [frame_mse(*pair, self.info.format).total for pair in pairs]
        peak = self.info.format.peak
        return sequence_psnr(errors, peak), tuple(psnr_from_mse(mse, peak) for mse in errors)


Input = Picture | Film


def read_inputs(sources: Sequence[str], *, limit: int | None = None) -> list[Input]:
    """All inputs; of clips `limit` frames at most.

    Raises:
        InputError: one cannot be read.
        UsageError: a picture has more than 8 bit or alpha, or an input is named like another.
    """
    inputs: dict[str, Input] = {}
    for source in sources:
        name = Path(source).stem
        if name in inputs:
            raise UsageError(f"two inputs are named {name}; rename one, reports go by these names")
        clip = open_source(source, limit=limit)
        file_hash = sha256(checked_input(source).read_bytes()).hexdigest()
        read = _picture if clip.info.is_still else _film
        inputs[name] = read(source, clip, file_hash)
    return list(inputs.values())


def _picture(source: str, clip: Clip, file_hash: str) -> Picture:
    try:
        array = eight_bit_array(clip)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error
    return Picture(Path(source).stem, array, file_hash)


def _film(source: str, clip: Clip, file_hash: str) -> Film:
    frames = tuple(clip.frames)
    if not frames:
        raise InputError(f"{source}: has no frames")
    return Film(Path(source).stem, clip.info, frames, file_hash)
