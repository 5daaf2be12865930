"""`modcodec compare`: PSNR between two pictures or clips, and other codecs at the same size."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.params import Json, MaxPixels, Threads, Verbose
from cli.progress import announce_compilation
from codec.errors import InputError

if TYPE_CHECKING:
    from cli.peers import PeerPoint
    from codec.comparison import Comparison

NAME = "compare"

Reference = Annotated[str, typer.Argument(metavar="REFERENCE", help="The original.")]
Test = Annotated[str, typer.Argument(metavar="TEST", help="What became of it; also a .modc file.")]
Peers = Annotated[
    bool,
    typer.Option(
        "--peers",
        help="Also encode REFERENCE with JPEG, WebP and AVIF, or x264 and x265, at TEST's size.",
    ),
]
Skip = Annotated[int, typer.Option(help="Leave out so many frames at the start of REFERENCE.")]
Limit = Annotated[int | None, typer.Option(help="Take at most so many frames of REFERENCE.")]


def command(
    reference: Reference,
    test: Test,
    peers: Peers = False,
    skip: Skip = 0,
    limit: Limit = None,
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure a picture or clip against another.

    Prints PSNR, sizes and bits a pixel of TEST against REFERENCE; -v adds each frame. PSNR of the
    whole weighs planes as (4Y + U + V) / 6 for YUV, equally for RGB.
    """
    from codec.api import compare

    announce_compilation("lines")
    result = compare(
        reference, test, skip=skip, limit=limit, threads=threads, max_pixels=max_pixels
    )
    points = _peer_points(reference, result, skip=skip, limit=limit) if peers else []
    if as_json:
        extra = {"peers": [point.as_dict() for point in points]} if peers else {}
        print(json.dumps({**result.as_dict(), **extra}, indent=2))
        return
    print("\n".join(_lines(result, test, verbose=verbose)))
    if peers:
        print("\n".join(_peer_lines(result, points)))


def _peer_points(
    reference: str, result: Comparison, *, skip: int, limit: int | None
) -> list[PeerPoint]:
    from cli.peers import clip_peers, still_peers
    from codec.media.sources import open_source

    if result.test_bytes is None:
        raise InputError("--peers needs a file to compare with, not a pipe")
    clip = open_source(reference, skip=skip, limit=limit)
    search = still_peers if clip.info.is_still else clip_peers
    print("encoding with other codecs ...", file=sys.stderr, flush=True)
    return list(search(clip, result.test_bytes))


def _lines(result: Comparison, test: str, *, verbose: bool) -> list[str]:
    from codec.comparison import format_name

    planes = "  ".join(f"{name} {value:.2f}" for name, value in result.plane_psnr_db.items())
    size = f"{result.width}x{result.height}"
    lines = [
        f"{test}: {result.num_frames} x {size}, {format_name(result.pixel_format)}",
        f"PSNR  {result.psnr_db:.2f} dB  ({planes})",
    ]
    if result.test_bytes is not None:
        lines.append(f"size  {result.test_bytes} bytes, {result.test_bpp:.4f} bpp")
    if result.reference_bytes is not None:
        lines.append(f"reference  {result.reference_bytes} bytes")
    if verbose:
        lines += [f"frame {i}  {value:.2f} dB" for i, value in enumerate(result.frame_psnr_db)]
    return lines


def _peer_lines(result: Comparison, points: list[PeerPoint]) -> list[str]:
    rows = [("this file", f"{result.test_bytes}", f"{result.psnr_db:.2f} dB", "")]
    for point in points:
        if point.size_bytes is None:
            rows.append((point.name, "-", "-", point.setting or "its smallest file is larger"))
        else:
            gain = f"{point.psnr_db - result.psnr_db:+.2f} dB, {point.setting}"
            rows.append((point.name, f"{point.size_bytes}", f"{point.psnr_db:.2f} dB", gain))
    return [f"{name:<12} {size:>9} bytes  {psnr:>9}  {note}" for name, size, psnr, note in rows]
