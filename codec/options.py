"""What an encode is asked for and what it tells: options, progress and report."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from codec.errors import UsageError

DEFAULT_PRESET = "fast"
DEFAULT_QUALITY = 50.0
DEVICES = ("auto", "cpu", "cuda")

# Mean PSNR in dB that a lambda gives on the Kodak photographs, from Cool-Chic 5's published points.
PSNR_OF_LAMBDA = ((2e-2, 27.4), (4e-3, 30.9), (1e-3, 34.5), (4e-4, 37.2), (1e-4, 41.2))
PSNR_AT_QUALITY = (27.4, 42.9)  # of quality 0 and 100
LAMBDA_RANGE = (1e-6, 1.0)

TARGET_KINDS = ("psnr", "bpp", "size")
_SIZE_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZE_UNITS |= {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_NUMBER = r"([0-9]*\.?[0-9]+)"


def rd_lambda_of(quality: float) -> float:
    """Lambda of J = D + lambda R for a quality.

    Args:
        quality: 0 (smallest file) to 100 (best picture); equal steps are about equal steps in PSNR.
    """
    low, high = PSNR_AT_QUALITY
    return rd_lambda_for_psnr(low + (high - low) * quality / 100)


def rd_lambda_for_psnr(psnr_db: float) -> float:
    """Lambda that gives a PSNR on average: log lambda is linear in it between measured points.

    Beyond them the nearest two go on, within LAMBDA_RANGE.
    """
    points = PSNR_OF_LAMBDA
    last = len(points) - 2
    k = min(last, sum(psnr_db > psnr for _, psnr in points[1:]))
    (start, low), (end, high) = points[k : k + 2]
    exponent = math.log(start) + math.log(end / start) * (psnr_db - low) / (high - low)
    least, most = LAMBDA_RANGE
    return min(max(math.exp(exponent), least), most)


@dataclass(frozen=True)
class EncodeTarget:
    """What a file shall reach: a PSNR in dB, bits a luma pixel (sound apart), or bytes in all."""

    kind: str
    value: float

    @staticmethod
    def parse(text: str) -> EncodeTarget:
        """From psnr=38, bpp=0.2, or size=20KiB (with the units of `parse_size`).

        Raises:
            UsageError: anything else.
        """
        match = re.fullmatch(rf"([a-z]+)={_NUMBER}([a-z]*)", text.strip().lower())
        kind, number, unit = match.groups() if match else ("", "0", "")
        is_size = kind == "size"
        if kind not in TARGET_KINDS or float(number) <= 0 or (unit and not is_size):
            raise UsageError(f"target must be like psnr=38, bpp=0.2 or size=20KiB, not {text!r}")
        if unit not in _SIZE_UNITS:
            raise UsageError(f"target {text!r}: units are B, kB, MB, GB, KiB, MiB, GiB")
        return EncodeTarget(kind, float(number) * _SIZE_UNITS[unit])

    def __str__(self) -> str:
        unit = {"psnr": " dB", "bpp": " bpp", "size": " bytes"}[self.kind]
        return f"{self.value:g}{unit}"


def parse_duration(text: str) -> float:
    """Seconds from 90, 90s, 1.5m, 2h, or 1:30 and 1:02:03.

    Raises:
        UsageError: anything else, or nothing at all.
    """
    wrong = UsageError(f"a time must be like 90s, 5m, 2h or 1:30, not {text!r}")
    match = re.fullmatch(rf"{_NUMBER}(s|m|min|h|)", text.strip().lower())
    if match:
        scale = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}[match[2]]
        seconds = float(match[1]) * scale
    elif re.fullmatch(r"[0-9]+(:[0-5]?[0-9]){1,2}", text.strip()):
        seconds = 0.0
        for part in text.strip().split(":"):
            seconds = 60 * seconds + int(part)
    else:
        raise wrong
    if seconds <= 0:
        raise wrong
    return seconds


def parse_size(text: str) -> int:
    """Bytes from 800MB, 1.5GiB and the like (B, kB, MB, GB, KiB, MiB, GiB; bytes without a unit).

    Raises:
        UsageError: anything else, or less than a byte.
    """
    match = re.fullmatch(rf"{_NUMBER}\s*([a-z]*)", text.strip().lower())
    num_bytes = int(float(match[1]) * _SIZE_UNITS.get(match[2], 0)) if match else 0
    if num_bytes < 1:
        raise UsageError(f"a size must be like 800MB or 2GiB, not {text!r}")
    return num_bytes


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """Everything that a user can ask of an encode; wrong values raise UsageError on creation.

    Args:
        preset: name of a preset, or the path of a TOML file.
        rd_lambda: weight of the rate in J = D + lambda R, D the mean squared error of samples in
            [0, 1] and R in bits per luma pixel; None leaves it to `quality`.
        quality: 0..100, higher is better.
        target: what to reach instead, such as "psnr=38", "bpp=0.2" or "size=20KiB"; of these three
            at most one is given.
        seed: of everything random in training, 0 <= seed < 2^32.
        steps: training steps a segment; None takes the preset's.
        time_s: seconds that the whole encode shall take, in place of `steps`; kernels that must be
            compiled at first come on top.
        threads: CPU threads; None takes all cores. The file does not depend on them.
        device: where to train: "auto", "cpu" or "cuda".
        skip: frames to leave out at the start of a clip.
        limit: frames to encode at most; None takes all.
        max_memory_bytes: what an encode may need; clips are cut into segments that are short
            enough. None allows 6 GiB, or 60 % of the memory of a machine that has less than 10 GiB.
    """

    preset: str = DEFAULT_PRESET
    rd_lambda: float | None = None
    quality: float | None = None
    target: str | None = None
    seed: int = 0
    steps: int | None = None
    time_s: float | None = None
    threads: int | None = None
    device: str = "auto"
    skip: int = 0
    limit: int | None = None
    max_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        asked = [getattr(self, name) is not None for name in ("rd_lambda", "quality", "target")]
        if sum(asked) > 1:
            raise UsageError("rd_lambda, quality and target exclude each other; give one of them")
        if self.target is not None:
            EncodeTarget.parse(self.target)
        if self.steps is not None and self.time_s is not None:
            raise UsageError("steps and time exclude each other; give one of them")
        if self.time_s is not None and not 0 < self.time_s < math.inf:
            raise UsageError(f"time must be a positive number of seconds, not {self.time_s}")
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
        for name in ("steps", "threads", "limit", "max_memory_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be 1 or more, not {value}")

    @property
    def effective_lambda(self) -> float:
        """The lambda that training begins with, and without a target keeps."""
        if self.rd_lambda is not None:
            return self.rd_lambda
        target = None if self.target is None else EncodeTarget.parse(self.target)
        if target is not None and target.kind == "psnr":
            return rd_lambda_for_psnr(target.value)
        return rd_lambda_of(DEFAULT_QUALITY if self.quality is None else self.quality)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where an encode stands.

    `stage` "estimate" comes first and once: `seconds_left` is then the expected time of the whole
    encode, and `num_steps` the steps that --steps would repeat it with, times the segments. `step`
    counts to `num_steps` over all segments; `bpp` (bits of the latents a luma pixel) and `psnr_db`
    are those of the model with the least J so far, NaN before the first measurement.
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
