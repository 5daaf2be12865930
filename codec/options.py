"""What an encode is asked for and what it tells: options, progress and report."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from codec.errors import UsageError

DEFAULT_PRESET = "fast"
DEFAULT_QUALITY = 50.0
DEVICES = ("auto", "cpu", "cuda")

# Quality 0 and 100 in terms of lambda: a factor of ten every 40 steps.
LAMBDA_AT_ZERO = 2e-2
QUALITY_PER_DECADE = 40.0


def rd_lambda_of(quality: float) -> float:
    """Lambda of J = D + lambda R for a quality: 0.02 * 10^(-quality / 40).

    Args:
        quality: 0 (smallest file) to 100 (best picture); equal steps are about equal steps in PSNR.
    """
    return LAMBDA_AT_ZERO * 10.0 ** (-quality / QUALITY_PER_DECADE)


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """Everything that a user can ask of an encode; wrong values raise UsageError on creation.

    Args:
        preset: name of a preset, or the path of a TOML file.
        rd_lambda: weight of the rate in J = D + lambda R, D the mean squared error of samples in
            [0, 1] and R in bits per luma pixel; None leaves it to `quality`.
        quality: 0..100, higher is better; not together with `rd_lambda`.
        seed: of everything random in training, 0 <= seed < 2^32.
        steps: training steps a segment; None takes the preset's.
        threads: CPU threads; None takes all cores. The file does not depend on them.
        device: where to train: "auto", "cpu" or "cuda".
        skip: frames to leave out at the start of a clip.
        limit: frames to encode at most; None takes all.
    """

    preset: str = DEFAULT_PRESET
    rd_lambda: float | None = None
    quality: float | None = None
    seed: int = 0
    steps: int | None = None
    threads: int | None = None
    device: str = "auto"
    skip: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.quality is not None and self.rd_lambda is not None:
            raise UsageError("quality and rd_lambda say the same thing; give one of them")
        if self.quality is not None and not 0 <= self.quality <= 100:
            raise UsageError(f"quality must be from 0 to 100, not {self.quality}")
        if self.rd_lambda is not None and not 0 < self.rd_lambda < math.inf:
            raise UsageError(f"rd_lambda must be a positive number, not {self.rd_lambda}")
        if not 0 <= self.seed < 1 << 32:
            raise UsageError(f"seed must be from 0 to 2^32 - 1, not {self.seed}")
        if self.device not in DEVICES:
            raise UsageError(f"device must be one of {', '.join(DEVICES)}, not {self.device!r}")
        if self.skip < 0:
            raise UsageError(f"skip must be 0 or more, not {self.skip}")
        for name in ("steps", "threads", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be 1 or more, not {value}")

    @property
    def effective_lambda(self) -> float:
        """The lambda that training uses, whichever way it was asked for."""
        if self.rd_lambda is not None:
            return self.rd_lambda
        return rd_lambda_of(DEFAULT_QUALITY if self.quality is None else self.quality)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where an encode stands.

    `stage` "estimate" comes first and once: `seconds_left` is then the expected time of the whole
    encode. `step` counts to `num_steps` over all segments; `bpp` (bits of the latents a luma pixel)
    and `psnr_db` are those of the model as it is, NaN before the first measurement.
    """

    stage: str
    step: int = 0
    num_steps: int = 0
    bpp: float = math.nan
    psnr_db: float = math.nan
    seconds_left: float = math.nan
    segment: int = 0
    num_segments: int = 1


@dataclass(frozen=True, kw_only=True)
class EncodeReport:
    """What an encode made; sizes in bytes of the real file, PSNR of the really decoded pictures
    (99 dB where there is no error).

    `bpp` counts all bits of the file but those of audio packets, per luma pixel. `notes` are
    sentences about what was converted or left out, `data` is the file itself where no output was
    named.
    """

    size_bytes: int
    network_bytes: int
    latent_bytes: int
    bpp: float
    psnr_db: float
    num_frames: int
    width: int
    height: int
    seconds: float
    steps: int
    rd_lambda: float
    preset: str
    seed: int = 0
    frame_psnr_db: tuple[float, ...] = ()
    frame_hashes: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    data: bytes | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can carry it: no file, hashes as eight hex digits."""
        values = asdict(self)
        del values["data"]
        return values | {"frame_hashes": [f"{value:08x}" for value in self.frame_hashes]}
