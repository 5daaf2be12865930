"""`modcodec bench rd`: rate and distortion of this codec and others on pictures and clips."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.params import Device, Inputs, Overwrite, Seed, Steps, Threads, Verbose
from cli.progress import announce_compilation
from codec.errors import UsageError
from codec.options import DEFAULT_PRESET
from codec.outputs import Existing, atomic_output, existing_rule, may_write

if TYPE_CHECKING:
    from codec.bench.rdreport import RdReport

NAME = "rd"
_LAMBDAS = "1e-4,4e-4,1e-3,4e-3"

Presets = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--preset",
        help="A name or a TOML file; may be given several times; none: only other codecs "
        f"[default: {DEFAULT_PRESET}].",
    ),
]
RdLambdas = Annotated[
    str | None,
    typer.Option("--rd-lambda", metavar="X,...", help=f"Rates [default: {_LAMBDAS}]."),
]
Qualities = Annotated[
    str | None, typer.Option("-q", "--quality", metavar="N,...", help="Rates, by quality instead.")
]
Peers = Annotated[
    str | None,
    typer.Option(metavar="NAME,...", help="Other codecs, or none [default: those installed]."),
]
Anchor = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What BD-rates compare with [default: avif-s0-444, and x264-veryslow for clips].",
    ),
]
Limit = Annotated[int | None, typer.Option(help="Compare at most so many frames of each clip.")]
PointFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--points",
        metavar="FILE",
        help='JSON {file: {codec: [{"bpp": ..., "psnr": ...}, ...]}} with points from elsewhere, '
        'for clips with {"_meta": {"frames": ...}} beside codecs; may be given several times.',
    ),
]
JsonFile = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Keep points here as they come; those that are there are not measured again.",
    ),
]
Plot = Annotated[
    str | None, typer.Option(metavar="FILE", help="Draw the curves: .png, .svg or .pdf.")
]
Markdown = Annotated[
    str | None, typer.Option(metavar="FILE", help="Also write there what is printed.")
]


def command(
    inputs: Inputs,
    presets: Presets = None,
    rd_lambda: RdLambdas = None,
    quality: Qualities = None,
    peers: Peers = None,
    anchor: Anchor = None,
    points: PointFiles = None,
    limit: Limit = None,
    json_file: JsonFile = None,
    plot: Plot = None,
    markdown: Markdown = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
) -> None:
    """Compare this codec's rate and distortion with those of other codecs, on pictures and clips.

    Every codec makes a file of every input at several rates; sizes are those of the files, PSNR
    is over the RGB samples of what they decode to, for clips over all YUV samples of all frames
    (4Y + U + V). Prints BD-rates against an anchor, points that are worse than it, and mean rates
    and times, pictures and clips apart. Long runs can be interrupted: with --json, the same
    command goes on where it stopped. Points are recognized by what is in the input, by options and
    by versions; a change of the code under the same version goes unnoticed.
    """
    rates = {"rates": parse_rates(rd_lambda, quality), "is_quality": quality is not None}
    _check_outputs(plot, markdown, overwrite=overwrite)
    from cli.bench.rdtables import as_markdown
    from codec.bench.inputs import read_inputs
    from codec.bench.points import PointStore, read_published
    from codec.bench.rd import RdOptions
    from codec.bench.rounds import prepare, run_round

    announce_compilation("lines")
    options = RdOptions(
        presets=_names(presets or [DEFAULT_PRESET]),
        peers=None if peers is None else _names(peers.split(",")),
        **rates,
        steps=steps,
        seed=seed,
        device=device,
        threads=threads or os.cpu_count() or 1,
    )
    published = [read_published(path) for path in points or ()]
    inputs, store = read_inputs(inputs, limit=limit), PointStore(json_file)
    rounds = prepare(inputs, options, published, anchor=anchor, on_line=_say)
    reports = [run_round(one, store, command=_command_line(), on_line=_say) for one in rounds]
    text = "\n".join(map(as_markdown, reports))
    store.write([report.as_dict() for report in reports])
    _write(text, reports, plot=plot, markdown=markdown)
    print(text, end="")


def parse_rates(rd_lambda: str | None, quality: str | None) -> tuple[float, ...]:
    """The numbers of --rd-lambda or --quality, of which at most one is given.

    Raises:
        UsageError: both are, or something is no number or comes twice.
    """
    if rd_lambda is not None and quality is not None:
        raise UsageError("--quality and --rd-lambda say the same thing; give one of them")
    name = "--rd-lambda" if quality is None else "--quality"
    text = quality or rd_lambda or _LAMBDAS
    try:
        rates = tuple(float(part) for part in text.split(",") if part)
    except ValueError as error:
        raise UsageError(f"{name}: {text!r} is not made of numbers") from error
    if len({*rates}) < len(rates):
        raise UsageError(f"{name}: {text!r} names a rate twice")
    return rates


def shown_argument(argument: str) -> str:
    """A word of a command line without the folders in it: reports are read elsewhere."""
    option, equals, value = argument.partition("=")
    if option.startswith("--") and equals:
        return f"{option}={Path(value).name}" if value else argument
    return Path(argument).name if os.sep in argument else argument


def _names(words: Sequence[str]) -> tuple[str, ...]:
    names = tuple(word for word in words if word)
    return () if names == ("none",) else names


def _check_outputs(plot: str | None, markdown: str | None, *, overwrite: bool) -> None:
    if plot is not None:
        from codec.bench.plot import check_plot

        check_plot(plot)
    for target in filter(None, (plot, markdown)):
        may_write(target, existing_rule(overwrite=overwrite, keep=False))


def _write(text: str, reports: list[RdReport], *, plot: str | None, markdown: str | None) -> None:
    # Whether they were there was checked before the work began.
    if markdown is not None:
        with atomic_output(markdown, Existing.OVERWRITE) as part:
            part.write_text(text, encoding="utf-8")
    if plot is not None:
        from codec.bench.plot import write_plot

        with atomic_output(plot, Existing.OVERWRITE) as part:
            write_plot(part, reports)


def _command_line() -> str:
    return shlex.join(["modcodec", *map(shown_argument, sys.argv[1:])])


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)
