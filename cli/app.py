"""The command `modcodec`: its subcommands, its version, and how the process ends."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli import bench, compare, decode, encode, info, presets, verify
from cli.batch import stop_on_signals
from cli.failures import guarded
from cli.startup import collect_seldom

EPILOG = (
    "Exit codes: 0 ok, 1 internal error, 2 usage, 3 unreadable or unsupported input, 4 output"
    " exists or cannot be written, 5 corrupt stream, 6 unsupported version,"
    " 7 target not reached, 8 some inputs of a batch failed, 130 interrupted."
)
REPORTED_PACKAGES = ("torch", "numpy", "numba", "av", "imageio", "pillow")

app = typer.Typer(
    name="modcodec",
    help="A neural codec: one small integer decoder, overfitted to each picture or clip.",
    epilog=EPILOG,
    no_args_is_help=True,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (encode, decode, info, verify, compare, presets):
    app.command(module.NAME, epilog=EPILOG)(guarded(module.command))
app.add_typer(bench.app, name=bench.NAME)


@app.callback()
def main(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("-V", "--version", help="Print the version; with -v, of all parts.")
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="With -V: say more.")] = False,
) -> None:
    """A neural codec: one small integer decoder, overfitted to each picture or clip."""
    if show_version:
        print("\n".join(version_lines(detailed=verbose)))
        raise typer.Exit
    if context.invoked_subcommand is None:
        print("modcodec: error: name a command; see modcodec --help", file=sys.stderr)
        raise typer.Exit(2)


def version_lines(*, detailed: bool) -> list[str]:
    """The version of modcodec and, if asked for, of what it runs on; nothing heavy is imported."""
    import platform

    lines = [f"modcodec {_version_of('modcodec')}"]
    if detailed:
        lines += [f"{name} {_version_of(name)}" for name in REPORTED_PACKAGES]
        lines.append(f"Python {platform.python_version()} on {platform.platform()}")
    return lines


def _version_of(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed)"


def run() -> None:
    """Entry point of the console script; ends the process with an exit code."""
    collect_seldom()
    stop_on_signals()
    app(prog_name="modcodec")
