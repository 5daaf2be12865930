"""`modcodec encode`: pictures and clips to .modc files."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, TextIO

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
    Device,
    Inputs,
    Jobs,
    Json,
    Keep,
    Output,
    OutputDir,
    Overwrite,
    Quiet,
    Seed,
    Steps,
    Threads,
    Verbose,
)
from cli.progress import (
    announce_compilation,
    format_duration,
    progress_reporter,
    resolve_mode,
    write_json_line,
)
from codec.media.files import checked_input
from codec.options import DEFAULT_PRESET, EncodeOptions, parse_duration, parse_size
from codec.outputs import (
    STDIO,
    Existing,
    checkpoint_path,
    existing_rule,
    may_write,
    refuse_same_file,
)

if TYPE_CHECKING:
    from codec.media.frames import Clip

NAME = "encode"
SUFFIX = ".modc"

Preset = Annotated[
    str, typer.Option("-p", "--preset", help="Name of a preset, or a TOML file; see `presets`.")
]
Quality = Annotated[
    float | None,
    typer.Option("-q", "--quality", help="0 (smallest) to 100 (best) [default: 50]."),
]
RdLambda = Annotated[
    float | None,
    typer.Option(help="Weight of the rate in J = D + lambda R, instead of --quality."),
]
TargetText = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT=VALUE",
        help="What to reach instead of --quality: psnr=38 (dB), bpp=0.2 or size=20KiB.",
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="How long it may take, instead of the preset's steps: 90s, 5m."
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on with OUTPUT.checkpoint of an interrupted encode."),
]
Skip = Annotated[int, typer.Option(help="Leave out so many frames at the start of a clip.")]
Limit = Annotated[int | None, typer.Option(help="Encode at most so many frames.")]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Cut clips into segments that can be trained in so much memory: 2GiB, 800MB. Longer"
        " segments make smaller files; if not given, 6GiB or 60 % of what there is. Each of --jobs"
        " takes as much.",
    ),
]
ProgressMode = Annotated[
    str, typer.Option("--progress", help="On standard error: auto, bar, lines, json or none.")
]


def command(
    inputs: Inputs,
    output: Output = None,
    output_dir: OutputDir = None,
    preset: Preset = DEFAULT_PRESET,
    quality: Quality = None,
    rd_lambda: RdLambda = None,
    target: TargetText = None,
    seed: Seed = 0,
    steps: Steps = None,
    time: Time = None,
    resume: Resume = False,
    skip: Skip = 0,
    limit: Limit = None,
    max_memory: MaxMemory = None,
    device: Device = "auto",
    threads: Threads = None,
    jobs: Jobs = 1,
    overwrite: Overwrite = False,
    no_overwrite: Keep = False,
    progress: ProgressMode = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Encode pictures and clips.

    Without -o, NAME.modc is written beside each input. The input can be a picture (PNG, JPEG, WebP,
    ...) or a clip (anything that FFmpeg reads), and - is a y4m stream on standard input.
    """
    from codec.arch.presets import load_preset

    rate = {"rd_lambda": rd_lambda, "quality": quality, "target": target}
    effort = {"steps": steps, "time_s": None if time is None else parse_duration(time)}
    memory = None if max_memory is None else parse_size(max_memory)
    machine = {"threads": threads, "device": device, "max_memory_bytes": memory}
    part = {"skip": skip, "limit": limit}
    options = EncodeOptions(preset=preset, seed=seed, **rate, **effort, **machine, **part)
    load_preset(preset)
    check_batch(inputs, output=output, folder=output_dir)
    mode = resolve_mode(progress, quiet=quiet)
    task = partial(
        encode_one,
        output=output,
        folder=output_dir,
        options=_shared_threads(options, jobs),
        existing=existing_rule(overwrite=overwrite, keep=no_overwrite),
        mode=mode,
        resume=resume,
    )
    stream = sys.stderr if output == STDIO else sys.stdout
    show = None if quiet or as_json else partial(_show, stream=stream)
    how = {"jobs": jobs, "json_errors": mode == "json", "verbose": verbose}
    outcomes = run_all(inputs, task, on_report=show, **how)
    if as_json:
        print_json(outcomes, stream)
    raise_if_any_failed(outcomes)


def encode_one(
    source: str,
    *,
    output: str | None,
    folder: str | None,
    options: EncodeOptions,
    existing: Existing,
    mode: str,
    resume: bool = False,
) -> Report:
    """Encode one input to its target, complete or not at all, and tell what was made."""
    target = output or target_in(folder, source, SUFFIX)
    refuse_same_file(source, target)
    names = {"input": source, "output": target}
    if source != STDIO:
        checked_input(source)
    if not may_write(target, existing):
        return {**names, "skipped": True}
    from codec.api import encode_to

    announce_compilation(mode)
    try:
        with progress_reporter(mode, name=source) as report_progress:
            made = encode_to(
                partial(_open, source, options),
                target,
                existing,
                options=options,
                resume=resume,
                on_progress=report_progress,
            )
    except (KeyboardInterrupt, SystemExit):
        _tell_of_checkpoint(source, target, mode)
        raise
    report = {**names, **made.as_dict()}
    if mode == "json":
        write_json_line({"type": "done", **report})
    return report


def _open(source: str, options: EncodeOptions) -> Clip:
    from codec.media.sources import open_source
    from codec.media.y4m import read_y4m

    selection = {"skip": options.skip, "limit": options.limit}
    if source == STDIO:
        return read_y4m(sys.stdin.buffer, **selection)
    return open_source(source, **selection)


def _tell_of_checkpoint(source: str, target: str, mode: str) -> None:
    path = checkpoint_path(target)
    if path is None or not path.exists():
        return
    if mode == "json":
        write_json_line({"type": "checkpoint", "input": source, "path": str(path)})
    else:
        line = f"{source}: the same command with --resume goes on from {path}"
        print(line, file=sys.stderr, flush=True)


def _shared_threads(options: EncodeOptions, jobs: int) -> EncodeOptions:
    """Without --threads, simultaneous jobs share the cores."""
    if options.threads is not None or jobs == 1:
        return options
    return replace(options, threads=max(1, (os.cpu_count() or 1) // jobs))


def _show(report: Report, *, stream: TextIO) -> None:
    if report.get("skipped"):
        print(f"{report['output']}: exists already, skipped", file=stream, flush=True)
        return
    for note in report["notes"]:
        print(f"{report['input']}: note: {note}", file=sys.stderr)
    print(
        f"{report['output']}: {report['size_bytes']} bytes, {report['bpp']:.4f} bpp,"
        f" {report['psnr_db']:.2f} dB"
        f" ({report['num_frames']} x {report['width']}x{report['height']},"
        f" {format_duration(report['seconds'])})",
        file=stream,
        flush=True,
    )
