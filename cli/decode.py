"""`modcodec decode`: .modc files to pictures and clips."""

from __future__ import annotations

import re
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from cli.batch import (
    Report,
    check_batch,
    print_json,
    raise_if_any_failed,
    run_all,
    target_in,
)
from cli.params import (
    Inputs,
    Jobs,
    Json,
    Keep,
    MaxPixels,
    Output,
    OutputDir,
    Overwrite,
    Quiet,
    Threads,
    Verbose,
)
from cli.progress import announce_compilation
from cli.startup import spare_numpy_its_threads, startup_seconds
from codec.errors import UsageError
from codec.outputs import STDIO, Existing, existing_rule, may_write, refuse_same_file

if TYPE_CHECKING:
    from codec.media.frames import ClipInfo

NAME = "decode"

Frames = Annotated[
    str | None,
    typer.Option(metavar="A:B", help="Only frames A to B - 1, counted from 0; A: and :B work too."),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--output-format",
        metavar="EXT",
        help="What to write where no name says it: png, mkv, mp4, y4m, ... [default: png or mkv;"
        " for clips on standard output y4m].",
    ),
]
Codec = Annotated[
    str | None, typer.Option("--codec", help="In mkv and mp4: ffv1 (lossless) or x264.")
]
Crf = Annotated[int | None, typer.Option(min=0, max=51, help="Quality of x264; lower is better.")]
VideoOnly = Annotated[bool, typer.Option("--video-only", help="Leave out the sound.")]


def command(
    inputs: Inputs,
    output: Output = None,
    output_dir: OutputDir = None,
    frames: Frames = None,
    output_format: Format = None,
    codec: Codec = None,
    crf: Crf = None,
    video_only: VideoOnly = False,
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    jobs: Jobs = 1,
    overwrite: Overwrite = False,
    no_overwrite: Keep = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Decode .modc files.

    Without -o, NAME.png or NAME.mkv is written beside each input. The extension of -o says what is
    written: a picture, mkv, mp4, y4m, or with a number in the name (frame%04d.png) a file for each
    frame. The hash of every frame is checked.
    """
    existing = existing_rule(overwrite=overwrite, keep=no_overwrite)
    check_batch(inputs, output=output, folder=output_dir)
    if output_format is not None and output not in (None, STDIO):
        raise UsageError("-o names the format already; --output-format is for pipes and folders")
    task = partial(
        decode_one,
        output=output,
        folder=output_dir,
        suffix=None if output_format is None else "." + output_format.lower().lstrip("."),
        existing=existing,
        frames=parse_frames(frames),
        threads=threads,
        max_pixels=max_pixels,
        settings={"codec": codec, "crf": crf, "video_only": video_only},
        quiet=quiet,
    )
    stream = sys.stderr if output == STDIO else sys.stdout
    show = None if quiet or as_json else partial(_show, stream=stream)
    outcomes = run_all(inputs, task, jobs=jobs, on_report=show, verbose=verbose)
    if as_json:
        print_json(outcomes, stream)
    raise_if_any_failed(outcomes)


def parse_frames(text: str | None) -> tuple[int, int | None] | None:
    """`a:b` as (a, b), b None for "to the end"; one number is one frame.

    Raises:
        UsageError: anything else, or a range with nothing in it.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{0,9})(:?)([0-9]{0,9})", text)
    if not match or text in ("", ":"):
        raise UsageError(f"--frames {text}: not a range like 10:20, 10: or :20")
    first = int(match[1] or 0)
    if not match[2]:
        return first, first + 1
    last = int(match[3]) if match[3] else None
    if last is not None and last <= first:
        raise UsageError(f"--frames {text}: there is no frame in this range")
    return first, last


def decode_one(
    source: str,
    *,
    output: str | None,
    folder: str | None,
    suffix: str | None,
    existing: Existing,
    frames: tuple[int, int | None] | None,
    threads: int | None,
    max_pixels: int | None,
    settings: dict[str, Any],
    quiet: bool,
) -> Report:
    """Decode one input to its target, complete or not at all, and tell what was written."""
    spare_numpy_its_threads()
    from codec.api import open_coded, save_clip

    announce_compilation("none" if quiet else "lines")
    startup, start = startup_seconds(), time.monotonic()
    clip = open_coded(
        sys.stdin.buffer if source == STDIO else source,
        frames=frames,
        threads=threads,
        max_pixels=max_pixels,
    )
    suffix = suffix or _usual_suffix(clip.info, to_pipe=output == STDIO)
    target = output or target_in(folder, source, suffix)
    refuse_same_file(source, target)
    report = {"input": source, "output": target}
    if not may_write(target, existing):
        return {**report, "skipped": True}
    num_frames, notes = save_clip(clip, target, existing, suffix=suffix, **settings)
    return {
        **report,
        "num_frames": num_frames,
        "width": clip.info.width,
        "height": clip.info.height,
        "seconds": time.monotonic() - start,
        "startup_seconds": startup,
        "notes": [*clip.notes, *notes],
    }


def _usual_suffix(info: ClipInfo, *, to_pipe: bool) -> str:
    if info.is_still:
        return ".png"
    return ".y4m" if to_pipe else ".mkv"


def _show(report: Report, *, stream: TextIO) -> None:
    if report.get("skipped"):
        print(f"{report['output']}: exists already, skipped", file=stream, flush=True)
        return
    for note in report["notes"]:
        print(f"{report['output']}: note: {note}", file=sys.stderr)
    size = f"{report['num_frames']} x {report['width']}x{report['height']}"
    seconds = f"{report['seconds']:.1f} s after {report['startup_seconds']:.1f} s of start-up"
    print(f"{report['output']}: {size}, {seconds}", file=stream, flush=True)
