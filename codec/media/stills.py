"""Still pictures in and out: PNG of every kind exactly, and what else Pillow opens and writes."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codec.errors import CodecError, InputError, OutputError
from codec.media import exif, png
from codec.media.convert import RGB_COLOUR, as_picture
from codec.media.deep_stills import is_deep, read_deep
from codec.media.files import checked_input, reason
from codec.media.frames import Clip, ClipInfo, Colour, Frame, PixelFormat

if TYPE_CHECKING:
    from PIL import Image

_CONVERTED_MODES = ("CMYK", "LAB", "HSV", "YCbCr")
_JPEG = {"quality": 95, "subsampling": 0}
# Saving options by extension, and whether a file can have alpha and 16-bit grey.
_WRITERS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    ".png": ({}, True, True),
    ".jpg": (_JPEG, False, False),
    ".jpeg": (_JPEG, False, False),
    ".webp": ({"lossless": True}, True, False),
    ".avif": ({"quality": 95, "subsampling": "4:4:4"}, True, False),
    ".tif": ({}, True, True),
    ".tiff": ({}, True, True),
    ".bmp": ({}, False, False),
    ".ppm": ({}, False, False),
    ".pgm": ({}, False, True),
}
STILL_EXTENSIONS = tuple(_WRITERS)


@dataclass(frozen=True)
class PictureKind:
    """What a file that Pillow opens holds: its format ('PNG', ...), and how many pictures."""

    format: str
    num_pictures: int


def picture_kind(path: Path) -> PictureKind | None:
    """What kind of picture file this is; None if Pillow does not know it. Reads only headers.

    Raises InputError if it is one that is too large or damaged.
    """
    from PIL import Image, UnidentifiedImageError

    with pillow_guard(str(path)):
        try:
            with Image.open(path) as image:
                return PictureKind(image.format, getattr(image, "n_frames", 1))
        except UnidentifiedImageError:
            return None


def read_still(source: str | os.PathLike | bytes, *, name: str | None = None) -> Clip:
    """The first picture of a file, or of the bytes of one (which `name` stands for in messages).

    Samples come as grey or RGB of 8 or 16 bit, with alpha where the file has transparency; palettes
    are expanded, CMYK and the like become RGB, AVIF is read at 8 bit. The EXIF orientation is
    applied and its tag reset.
    Raises InputError for what cannot be read.
    """
    if not isinstance(source, bytes):
        name = name or os.fspath(source)
        source = checked_input(source).read_bytes()
    name = name or "picture"
    with pillow_guard(name):
        return _read(source, name)


def still_bytes(info: ClipInfo, frame: Frame, extension: str, metadata: dict[str, bytes]) -> bytes:
    """A picture file of the kind of `extension` ('.png', ...), metadata included.

    PNG is exact for 8 and 16 bit. JPEG and AVIF are written at quality 95 without chroma
    subsampling, WebP lossless. YUV and other depths are converted by `as_picture`. Raises
    OutputError if that kind of file cannot hold the picture.
    """
    info, frame = as_picture(info, frame)
    _check_writable(info.format, extension)
    if extension == ".png":
        return png.png_bytes(frame.planes, metadata, info.colour)
    try:
        return _saved(frame, extension, metadata)
    except (OSError, ValueError, RuntimeError) as error:
        raise OutputError(f"cannot write {extension[1:]}: {reason(error)}; use .png") from error


def write_still(
    path: str | os.PathLike, info: ClipInfo, frame: Frame, metadata: dict[str, bytes]
) -> None:
    """Writes `still_bytes` to a file, by its extension. Raises OutputError."""
    path = Path(path)
    data = still_bytes(info, frame, path.suffix.lower(), metadata)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from error


@contextmanager
def pillow_guard(name: str) -> Iterator[None]:
    """Turns what Pillow raises into InputError and keeps its warnings, about metadata, quiet.

    Damaged files make it raise nearly anything, so everything but our own errors is meant.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (CodecError, AssertionError):
            raise
        except Exception as error:
            raise InputError(f"{name}: damaged or unsupported picture: {reason(error)}") from error


def _read(data: bytes, name: str) -> Clip:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        return _clip(*read_deep(data, name))
    with image:
        # Pillow turns TIFF pictures upright itself, and forgets that they were not, as it loads.
        turn = image.getexif().get(exif.ORIENTATION_TAG, 1) if image.format == "TIFF" else 1
        image.load()
        metadata = _metadata(image)
        if is_deep(data, image.format, image.mode):
            pixel_format, planes = read_deep(data, name)
            planes = tuple(exif.upright(plane, turn) for plane in planes)
            notes: tuple[str, ...] = ()
        else:
            pixel_format, planes, notes = _samples(data, image, name)
    clip = _clip(pixel_format, planes, metadata, png.stated_colour(data))
    return replace(clip, notes=notes)


def _clip(
    pixel_format: PixelFormat,
    planes: tuple[np.ndarray, ...],
    metadata: dict[str, bytes] | None = None,
    colour: Colour | None = None,
) -> Clip:
    metadata = dict(metadata or {})
    if "exif" in metadata:
        turn = exif.orientation(metadata["exif"])
        planes = tuple(exif.upright(plane, turn) for plane in planes)
        metadata["exif"] = exif.with_upright_orientation(metadata["exif"])
    height, width = planes[0].shape
    if colour is None or pixel_format.layout == "gray":
        colour = RGB_COLOUR if pixel_format.layout == "rgb" else Colour(full_range=True)
    info = ClipInfo(pixel_format, width, height, is_still=True, colour=colour)
    return Clip(info, iter([Frame(planes)]), num_frames=1, metadata=metadata)


def _metadata(image: Image.Image) -> dict[str, bytes]:
    found = {
        # A profile of CMYK or Lab says nothing about the RGB that such pictures become.
        "icc": None if image.mode in _CONVERTED_MODES else image.info.get("icc_profile"),
        "exif": exif.bare(image.info.get("exif") or _text_exif(image)),
        "xmp": image.info.get("xmp"),
    }
    return {key: value for key, value in found.items() if isinstance(value, bytes) and value}


def _text_exif(image: Image.Image) -> bytes:
    """EXIF that ImageMagick wrote as text: three lines of heading, then hexadecimal digits."""
    text = image.info.get("Raw profile type exif")
    if not isinstance(text, str):
        return b""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


def _samples(
    data: bytes, image: Image.Image, name: str
) -> tuple[PixelFormat, tuple[np.ndarray, ...], tuple[str, ...]]:
    mode = _target_mode(image.mode, image.has_transparency_data, name)
    samples = _pixels(data, image, mode)
    if mode == "I":
        if samples.min() < 0 or samples.max() > 65535:
            raise InputError(f"{name}: samples of 32 bit are not supported; convert to 16 bit")
        samples = samples.astype(np.uint16)
    notes = ()
    if image.mode in _CONVERTED_MODES:
        notes = (f"converted from {image.mode} to RGB; its ICC profile, if any, is left out",)
    layout = "gray" if mode in ("L", "LA", "I", "I;16") else "rgb"
    depth = 16 if samples.dtype == np.uint16 else 8
    planes = tuple(np.moveaxis(np.atleast_3d(samples), 2, 0))
    return PixelFormat(layout, depth, alpha=mode in ("LA", "RGBA")), planes, notes


def _target_mode(mode: str, transparent: bool, name: str) -> str:
    if mode == "F":
        raise InputError(f"{name}: floating point samples are not supported; convert to 16 bit")
    if mode in ("1", "L", "LA", "La"):
        return "LA" if transparent else "L"
    if mode.startswith("I"):
        return "I" if mode == "I" else "I;16"
    return "RGBA" if transparent else "RGB"


def _pixels(data: bytes, image: Image.Image, mode: str) -> np.ndarray:
    """Samples (height, width[, channels]) through imageio, or Pillow alone where that fails.

    imageio parses all EXIF on its way and gives up where that is damaged; the pixels are fine.
    """
    import imageio.v3 as iio

    try:
        return iio.imread(data, plugin="pillow", index=0, mode=mode)
    except (SyntaxError, ValueError, OSError, TypeError):
        return np.asarray(image.convert(mode))


def _check_writable(pixel_format: PixelFormat, extension: str) -> None:
    if extension not in _WRITERS:
        known = " ".join(STILL_EXTENSIONS)
        raise OutputError(f"cannot write pictures as '{extension}'; use one of {known}")
    _, holds_alpha, holds_deep_grey = _WRITERS[extension]
    kind = extension[1:]
    if pixel_format.alpha and not holds_alpha:
        raise OutputError(f"{kind} cannot hold the alpha of this picture; use .png")
    plain_grey = pixel_format.layout == "gray" and not pixel_format.alpha
    deep = pixel_format.depth > 8
    if deep and extension != ".png" and not (holds_deep_grey and plain_grey):
        raise OutputError(f"{kind} cannot hold the 16-bit samples of this picture; use .png")
    if extension == ".pgm" and pixel_format.layout != "gray":
        raise OutputError("pgm holds grey pictures only; use .png")


def _saved(frame: Frame, extension: str, metadata: dict[str, bytes]) -> bytes:
    import imageio.v3 as iio

    planes = frame.planes
    samples = planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)
    options = dict(_WRITERS[extension][0])
    if "icc" in metadata:
        options["icc_profile"] = metadata["icc"]
    if "exif" in metadata:
        options["exif"] = exif.PREFIX + metadata["exif"]
    if "xmp" in metadata:
        options["xmp"] = metadata["xmp"]
    return iio.imwrite(
        "<bytes>", samples, plugin="pillow", extension=extension, is_batch=False, **options
    )
