"""Options that several commands share: each named, typed and explained once."""

from __future__ import annotations

from typing import Annotated

import typer

Inputs = Annotated[list[str], typer.Argument(metavar="INPUT", help="Files, or - for a pipe.")]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="Where to write; - is standard output."),
]
OutputDir = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", help="Write each output into this folder."),
]
Overwrite = Annotated[
    bool, typer.Option("-y", "--overwrite", help="Overwrite outputs that exist already.")
]
Keep = Annotated[
    bool, typer.Option("-n", "--no-overwrite", help="Skip inputs whose output exists already.")
]
Jobs = Annotated[
    int,
    typer.Option("-j", "--jobs", min=1, help="Inputs worked on at a time, each in its process."),
]
Seed = Annotated[int, typer.Option(help="Of all that is random in training.")]
Steps = Annotated[int | None, typer.Option(help="Training steps, instead of the preset's.")]
Device = Annotated[str, typer.Option(help="Where to train: auto, cpu or cuda.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads of each process [default: all cores]."),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(min=1, help="Largest frame to decode, in pixels, instead of 2^26."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more; tracebacks with errors.")]
Json = Annotated[
    bool,
    typer.Option("--json", help="Report as JSON: an object, or a list for several inputs."),
]
