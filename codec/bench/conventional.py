"""Picture codecs of others: JPEG, WebP and AVIF through Pillow, JPEG XL through imagecodecs."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from codec.arrays import array_of
from codec.bench.machine import package_version
from codec.errors import UsageError
from codec.media.frames import Clip

# Full chroma costs JPEG more than it gives, until the picture is good.
_JPEG_FULL_CHROMA_FROM = 86
JPEG = {"optimize": True, "progressive": True}
WEBP = {"method": 6}


class StillCodec(Protocol):
    """One codec at one effort; `values`, in `unit`s, spread points over its curve.

    Arrays are uint8, (H, W) or (H, W, 3).
    """

    name: str
    unit: str
    values: tuple[float, ...]

    def is_installed(self) -> bool:
        """Whether the library is here and was built with this codec."""

    def describe(self) -> str:
        """Versions and options."""

    def encode(self, array: np.ndarray, value: float, threads: int) -> bytes:
        """The file."""

    def decode(self, data: bytes, threads: int) -> np.ndarray:
        """What is in the file."""


@dataclass(frozen=True)
class PillowCodec:
    """A format of Pillow, which calls its library `feature`."""

    name: str
    kind: str
    feature: str
    values: tuple[float, ...]
    options: dict[str, Any] = field(default_factory=dict)
    unit: str = "quality"

    def is_installed(self) -> bool:
        """Whether this Pillow was built with the format."""
        from PIL import features

        return features.check(self.feature)

    def describe(self) -> str:
        """Versions and options."""
        from PIL import features

        library = f"{self.feature} {features.version(self.feature)}"
        options = "".join(f", {name} {value}" for name, value in self.options.items())
        return f"Pillow {package_version('pillow')}, {library}{options}"

    def encode(self, array: np.ndarray, value: float, threads: int) -> bytes:
        """The file at a quality; of these formats only AVIF uses threads."""
        options = dict(self.options)
        if self.kind == "AVIF":
            options["max_threads"] = threads
        if self.kind == "JPEG":
            options["subsampling"] = 0 if value >= _JPEG_FULL_CHROMA_FROM else 2
        return save_still(array, self.kind, quality=int(value), **options)

    def decode(self, data: bytes, threads: int) -> np.ndarray:
        """The samples, grey or RGB as the file has them."""
        from PIL import AvifImagePlugin

        # The one way that Pillow has of passing it.
        AvifImagePlugin.DEFAULT_MAX_THREADS = threads
        return load_still(data)


@dataclass(frozen=True)
class JxlCodec:
    """JPEG XL; distance 1 is meant to be hardly visible, and more is worse."""

    name: str
    effort: int
    values: tuple[float, ...]
    unit: str = "distance"

    def is_installed(self) -> bool:
        """Whether imagecodecs is here, with JPEG XL in it."""
        if find_spec("imagecodecs") is None:
            return False
        import imagecodecs

        return imagecodecs.JPEGXL.available

    def describe(self) -> str:
        """Versions and options."""
        import imagecodecs

        library = imagecodecs.jpegxl_version()
        return f"imagecodecs {package_version('imagecodecs')}, {library}, effort {self.effort}"

    def encode(self, array: np.ndarray, value: float, threads: int) -> bytes:
        """The file at a distance."""
        import imagecodecs

        settings = {"distance": value, "effort": self.effort, "numthreads": threads}
        return imagecodecs.jpegxl_encode(array, **settings)

    def decode(self, data: bytes, threads: int) -> np.ndarray:
        """The samples."""
        import imagecodecs

        return imagecodecs.jpegxl_decode(data, numthreads=threads)


def avif_options(speed: int) -> dict[str, Any]:
    """AVIF with full chroma; speed 0 is the slowest."""
    return {"speed": speed, "subsampling": "4:4:4"}


def _avif(speed: int) -> PillowCodec:
    values = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
    return PillowCodec(f"avif-s{speed}-444", "AVIF", "avif", values, avif_options(speed))


STILL_CODECS: tuple[StillCodec, ...] = (
    PillowCodec("jpeg", "JPEG", "jpg", (5, 10, 20, 35, 50, 65, 80, 90, 95), JPEG),
    PillowCodec("webp", "WEBP", "webp", (1, 10, 25, 40, 60, 75, 85, 92, 97), WEBP),
    JxlCodec("jxl-e7", 7, (20, 14, 9, 6, 4, 2.5, 1.6, 1, 0.6)),
    _avif(4),
    _avif(0),
)


def eight_bit_array(clip: Clip) -> np.ndarray:
    """A picture as all of these codecs can hold it: uint8, (H, W) or (H, W, 3).

    Raises:
        UsageError: it has more than 8 bit or alpha.
    """
    pixel_format = clip.info.format
    if pixel_format.depth != 8 or pixel_format.alpha or pixel_format.layout not in ("gray", "rgb"):
        raise UsageError("other codecs need an 8-bit picture without alpha: some hold no more")
    return array_of(clip.info, clip.frames)


def save_still(array: np.ndarray, kind: str, **options: Any) -> bytes:
    """A picture, uint8 (H, W) or (H, W, 3), as a file of one of Pillow's formats."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def load_still(data: bytes) -> np.ndarray:
    """What Pillow decodes of a file: uint8, (H, W) if it is grey and (H, W, 3) if not."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image if image.mode == "L" else image.convert("RGB"))
