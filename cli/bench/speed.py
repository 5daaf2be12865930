"""`modcodec bench speed`: time and memory of training and decoding, by part."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from cli.params import Json, Threads, Verbose
from codec.errors import UsageError

NAME = "speed"

Input = Annotated[
    str | None,
    typer.Argument(
        metavar="INPUT",
        help="A picture, a clip, or a .modc file (which is only decoded), "
        "instead of pictures made for the purpose.",
    ),
]
Preset = Annotated[
    str, typer.Option("-p", "--preset", help="Whose networks: a name, or a TOML file.")
]
Sizes = Annotated[
    str | None,
    typer.Option(
        metavar="WxH,...",
        help="Stills to make; '' for none [default: 256x256,768x512,2048x1536].",
    ),
]
Frames = Annotated[
    str, typer.Option(metavar="N,...", help="Lengths of the CIF clips to make; '' for none.")
]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        "--part",
        metavar="PART",
        help="training, decode, memory or startup; may be given several times [default: all].",
    ),
]
Repeat = Annotated[int, typer.Option(min=1, help="Rounds that count; one more comes before.")]
Steps = Annotated[
    int, typer.Option(min=1, help="Training behind the files that are made to be decoded.")
]

_SIZES = "256x256,768x512,2048x1536"


def command(
    source: Input = None,
    preset: Preset = "medium",
    sizes: Sizes = None,
    frames: Frames = "1,9,21",
    parts: Parts = None,
    threads: Threads = None,
    repeat: Repeat = 5,
    steps: Steps = 200,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure the speed and the memory of training and decoding on this machine.

    Times of a training step by part, with plain PyTorch and with the fused kernels in turn; of
    decoding by part, on one thread and on --threads; peak memory; start-up; and how all that grows
    with the number of pixels. Rates are compared with peaks that are measured first. Everything
    takes some minutes; nothing is written but the report.
    """
    if source is not None and sizes is not None:
        raise UsageError("--sizes are of pictures that are made; INPUT has its own size")
    from cli.bench.tables import lines
    from codec.bench.speed import PARTS, SpeedOptions, measure_speed

    options = SpeedOptions(
        preset=preset,
        source=source,
        sizes=() if source else parse_sizes(_SIZES if sizes is None else sizes),
        frame_counts=tuple(_integers(frames, ",", what="--frames")),
        parts=tuple(parts or PARTS),
        threads=threads or os.cpu_count() or 1,
        repeat=repeat,
        steps=steps,
    )
    report = measure_speed(options, command=[sys.executable, "-m", "cli"], on_line=_say)
    print(json.dumps(report.as_dict(), indent=2) if as_json else "\n".join(lines(report)))


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """(width, height) of sizes such as `768x512,64x48`.

    Raises:
        UsageError: something else.
    """
    sizes = []
    for part in filter(None, text.split(",")):
        numbers = _integers(part, "x", what="--sizes")
        if len(numbers) != 2:
            raise UsageError(f"--sizes: {part!r} is not a size such as 768x512")
        sizes.append((numbers[0], numbers[1]))
    return tuple(sizes)


def _integers(text: str, separator: str, *, what: str) -> list[int]:
    try:
        return [int(part) for part in filter(None, text.split(separator))]
    except ValueError as error:
        raise UsageError(f"{what}: {text!r} is not made of numbers") from error


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)
