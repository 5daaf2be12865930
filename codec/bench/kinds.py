"""What differs between the comparison of pictures and that of clips."""

from __future__ import annotations

from dataclasses import dataclass

from codec.bench.clipcodecs import CLIP_CODECS
from codec.bench.conventional import STILL_CODECS


@dataclass(frozen=True)
class Kind:
    """Pictures or clips.

    Args:
        name: for people, in the plural.
        peers: names of the other codecs.
        missing: what is wrong where one of these is not installed.
        anchor: what BD-rates compare with by default.
        checked_bpp: bits a pixel between which this codec is meant to be better than the anchor.
        psnr: which PSNR is measured, for axes.
        rate_and_quality: what rate and quality are, in sentences.
    """

    name: str
    peers: tuple[str, ...]
    missing: str
    anchor: str
    checked_bpp: tuple[float, float]
    psnr: str
    rate_and_quality: str


PICTURES = Kind(
    name="pictures",
    peers=tuple(codec.name for codec in STILL_CODECS),
    missing="not installed; pip install 'modcodec[bench]'",
    anchor="avif-s0-444",
    checked_bpp=(0.1, 1.5),
    psnr="RGB PSNR",
    rate_and_quality=(
        "Rate is the size of the whole file in bits a pixel (bpp), quality the PSNR over all RGB"
        " samples of what the file decodes to."
    ),
)

CLIPS = Kind(
    name="clips",
    peers=tuple(codec.name for codec in CLIP_CODECS),
    missing="not part of this PyAV",
    anchor="x264-veryslow",
    checked_bpp=(0.01, 0.5),
    psnr="YUV PSNR",
    rate_and_quality=(
        "Rate is the size of the whole file, sound apart, in bits a luma pixel (bpp); of other"
        " codecs it is that of the stream without a container and without what x264 and x265 say"
        " of themselves in it. Quality is the PSNR of the mean error of all frames of what the"
        " file decodes to, (4Y + U + V) / 6."
    ),
)

KINDS = (PICTURES, CLIPS)
