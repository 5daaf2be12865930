"""`modcodec bench`: measurements, each a command of its own."""

from __future__ import annotations

import typer

from cli.bench import rd, speed
from cli.failures import guarded

NAME = "bench"

app = typer.Typer(
    help="Measure this codec, and others beside it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (rd, speed):
    app.command(module.NAME)(guarded(module.command))
