"""`modcodec info`: what files say about themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from cli.batch import Report, print_json, raise_if_any_failed, run_all
from cli.params import Inputs, Json, MaxPixels, Verbose
from cli.progress import announce_compilation
from cli.startup import spare_numpy_its_threads
from codec.outputs import STDIO

NAME = "info"


def command(
    inputs: Inputs,
    max_pixels: MaxPixels = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Describe .modc files.

    Prints format, timing, colour, sizes and networks; -v adds the segments. All checksums are
    checked, but no picture is decoded: `verify` does that.
    """
    task = partial(info_one, max_pixels=max_pixels)
    show = None if as_json else partial(_show, verbose=verbose)
    outcomes = run_all(inputs, task, on_report=show, verbose=verbose)
    if as_json:
        print_json(outcomes, sys.stdout)
    raise_if_any_failed(outcomes)


def info_one(source: str, *, max_pixels: int | None) -> Report:
    """What one file says about itself."""
    spare_numpy_its_threads()
    from codec.api import info

    announce_compilation("lines")
    summary = info(sys.stdin.buffer if source == STDIO else source, max_pixels=max_pixels)
    return {"input": source, **summary.as_dict()}


def _show(report: Report, *, verbose: bool) -> None:
    print(report["input"])
    for name, text in _rows(report, verbose=verbose):
        print(f"  {name:<14}{text}")


def _rows(report: Report, *, verbose: bool) -> Iterator[tuple[str, str]]:
    yield "picture", _picture(report)
    if not report["is_still"]:
        yield "timing", f"{report['frame_ticks']} ticks of {report['time_base']} s a frame"
    yield "colour", _colour(report["colour"])
    if report["pixel_aspect"] != "1" or report["rotation"]:
        yield "display", f"pixels {report['pixel_aspect']}, rotated by {report['rotation']} degrees"
    yield "size", f"{report['size_bytes']} bytes, {report['bpp']:.4f} bpp"
    yield "parts", _counts(report["part_bytes"])
    yield "latents", f"{report['latent_bytes']} bytes"
    if report["metadata_bytes"]:
        yield "metadata", _counts(report["metadata_bytes"])
    if report["audio"]:
        yield "sound", report["audio"]
    for network in report["networks"]:
        yield from _network_rows(network)
    yield "segments", str(len(report["segments"]))
    if verbose:
        for segment in report["segments"]:
            yield "", _segment(segment)


def _picture(report: Report) -> str:
    pixel_format = report["format"]
    kind = "picture" if report["is_still"] else f"clip of {report['num_frames']} frames"
    alpha = " with alpha" if pixel_format["alpha"] else ""
    size = f"{report['width']}x{report['height']}"
    return f"{kind}, {size}, {pixel_format['layout']} {pixel_format['depth']} bit{alpha}"


def _colour(colour: dict[str, Any]) -> str:
    points = "/".join(str(colour[name]) for name in ("primaries", "transfer", "matrix"))
    value_range = "full" if colour["full_range"] else "limited"
    return f"{points} (primaries/transfer/matrix of H.273), {value_range} range"


def _counts(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {size} bytes" for name, size in sizes.items())


def _network_rows(network: dict[str, Any]) -> Iterator[tuple[str, str]]:
    work = f"{network['num_parameters']} parameters, {network['mac_per_pixel']:.0f} MAC/pixel"
    yield f"network {network['network_id']}", work
    yield "  grids", network["grids"]
    yield "  entropy", network["entropy_model"]
    if network["temporal"]:
        yield "  temporal", "  ".join(network["temporal"])
    yield "  synthesis", "  ".join(network["synthesis"])


def _segment(segment: dict[str, Any]) -> str:
    first, last = segment["first_frame"], segment["first_frame"] + segment["num_frames"] - 1
    top, left, height, width = segment["rect"]
    return (
        f"frames {first}-{last}, {width}x{height} at ({left}, {top}), network"
        f" {segment['network_id']}, {segment['latent_bytes']} bytes of latents"
    )
