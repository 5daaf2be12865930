"""The report of `modcodec bench rd` as Markdown, which is also what it prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from codec.bench.bdrate import MIN_OVERLAP_DB
from codec.bench.rd import DECODES

if TYPE_CHECKING:
    from codec.bench.bdrate import BdRate
    from codec.bench.points import Point
    from codec.bench.rdreport import Means, RdReport

NOTHING = "–"


def as_markdown(report: RdReport) -> str:
    """The whole report."""
    parts = (_head, _bd_rates, _behind, _points, _films, _codecs)
    return "\n".join(line for part in parts for line in part(report)) + "\n"


def _head(report: RdReport) -> Iterator[str]:
    machine = report.machine
    packages = ("modcodec", "torch", "numpy", "numba")
    versions = ", ".join(f"{name} {machine.versions[name]}" for name in packages)
    yield f"# Rate and distortion of {report.kind.name}"
    yield ""
    yield f"    {report.command}"
    yield ""
    yield (
        f"{report.date}; {machine.cpu}, {machine.usable_cores} cores,"
        f" {' '.join(machine.extensions)}; {versions}, Python {machine.python}."
    )
    yield ""
    yield report.kind.rate_and_quality
    if report.notes:
        yield ""
        yield from (f"- {note}" for note in report.notes)


def _bd_rates(report: RdReport) -> Iterator[str]:
    yield from ("", f"## BD-rate against {report.anchor}", "")
    if not any(report.anchor in curves for curves in report.curves.values()):
        yield f"There are no points of {report.anchor}."
        return
    yield (
        "How much more rate a codec needs for the same PSNR (less, where negative): the mean of"
        " log(rate) over the PSNRs that both curves reach, interpolated monotonically (PCHIP). "
        f"Curves that share less than {MIN_OVERLAP_DB} dB are not compared. Means are over the"
        " files in brackets, plain means of the percentages."
    )
    others = [codec for codec in report.codecs if codec != report.anchor]
    means = [_mean_percent(*report.mean_bd_rate(codec)) for codec in others]
    yield ""
    yield from _by_file(report, others, _percent, ["mean", *means])
    yield from ("", "The PSNRs in dB that were compared:", "")
    yield from _by_file(report, others, _interval)


def _behind(report: RdReport) -> Iterator[str]:
    if not report.own:
        return
    low_bpp, high_bpp = report.kind.checked_bpp
    yield from ("", f"## Points of modcodec that are worse than {report.anchor}", "")
    yield (
        f"{len(report.behind)} of {report.num_checked} points between {low_bpp} and {high_bpp} bpp"
        " need more rate than the anchor for the same PSNR, or a higher one"
        + (":" if report.behind else ".")
        + _unchecked_sentence(report.unchecked)
    )
    if report.behind:
        yield ""
        yield from _table(
            ["file", "codec", "setting", "PSNR", "bpp", "anchor's bpp", "more"],
            [
                [
                    *_where(one.point),
                    f"{one.point.psnr_db:.2f} dB",
                    f"{one.point.bpp:.4f}",
                    f"{one.anchor_bpp:.4f}",
                    f"{100 * (one.point.bpp / one.anchor_bpp - 1):+.1f} %",
                ]
                for one in report.behind
            ],
            text_columns=3,
        )


def _points(report: RdReport) -> Iterator[str]:
    if not report.means:
        return
    yield from ("", "## Points", "")
    threads = " or ".join(map(str, sorted({point.threads for point in report.points})))
    yield (
        f"Means over files. Times, with --threads {threads}, which not all codecs use: of one whole"
        " encode, and of decoding inside a process that runs already, the least of"
        f" {DECODES}."
    )
    yield ""
    head = ["codec", "setting", "files", "bpp", "PSNR", "bytes", "of networks", "encode", "decode"]
    yield from _table(head, [_mean_cells(mean) for mean in report.means], text_columns=2)


def _films(report: RdReport) -> Iterator[str]:
    """What means over clips do not say: networks weigh more in short ones, frames differ."""
    films = [point for point in report.points if point.frame_psnr_db]
    if not films:
        return
    yield from ("", "## Clip by clip", "")
    yield "PSNR of all frames, and the least, mean and greatest of single frames, in dB."
    yield ""
    head = ["file", "codec", "setting", "frames", "bpp", "bytes", "of networks"]
    head += ["PSNR", "least", "mean", "greatest"]
    yield from _table(head, [_film_cells(point) for point in films], text_columns=3)


def _codecs(report: RdReport) -> Iterator[str]:
    yield from ("", "## Codecs", "")
    for codec, identity in report.identities.items():
        yield f"- {codec}: {identity}"
    if report.published:
        yield f"- not run for some or all files, points from elsewhere: {_list(report.published)}"


def _by_file(
    report: RdReport,
    codecs: Sequence[str],
    cell: Callable[[BdRate | None], str],
    last: Sequence[str] | None = None,
) -> Iterator[str]:
    rows = [[file, *(cell(report.bd_rates[c][file]) for c in codecs)] for file in report.files]
    yield from _table(["file", *codecs], [*rows, list(last)] if last else rows, text_columns=1)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int) -> list[str]:
    """A Markdown table, padded so that it reads well as text; figures stand to the right."""
    widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]
    signs = [
        "-" * width if number < text_columns else "-" * (width - 1) + ":"
        for number, width in enumerate(widths)
    ]

    def line(cells: Sequence[str]) -> str:
        padded = [
            f"{cell:{'<' if number < text_columns else '>'}{width}}"
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    return [line(head), line(signs), *map(line, rows)]


def _percent(rate: BdRate | None) -> str:
    return NOTHING if rate is None or rate.percent is None else f"{rate.percent:+.1f} %"


def _mean_percent(percent: float | None, num_files: int) -> str:
    return NOTHING if percent is None else f"{percent:+.1f} % ({num_files})"


def _interval(rate: BdRate | None) -> str:
    if rate is None or rate.high_db <= rate.low_db:
        return NOTHING
    return f"{rate.low_db:.1f} to {rate.high_db:.1f}"


def _where(point: Point) -> list[str]:
    return [point.file, point.codec, point.setting]


def _film_cells(point: Point) -> list[str]:
    frames = point.frame_psnr_db
    networks = NOTHING
    if point.network_bytes is not None:
        networks = f"{point.network_bytes} ({100 * point.network_bytes / point.size_bytes:.1f} %)"
    psnrs = (point.psnr_db, min(frames), fmean(frames), max(frames))
    cells = [*_where(point), f"{point.num_frames}", f"{point.bpp:.4f}", f"{point.size_bytes}"]
    return [*cells, networks, *(f"{psnr_db:.2f}" for psnr_db in psnrs)]


def _mean_cells(mean: Means) -> list[str]:
    networks = NOTHING if mean.network_bytes is None else f"{mean.network_bytes:.0f}"
    return [
        mean.codec,
        mean.setting,
        f"{mean.num_files}",
        f"{mean.bpp:.4f}",
        f"{mean.psnr_db:.2f} dB",
        f"{mean.size_bytes:.0f}",
        networks,
        f"{mean.encode_s:.2f} s",
        f"{1e3 * mean.decode_s:.1f} ms",
    ]


def _unchecked_sentence(points: Sequence[Point]) -> str:
    if not points:
        return ""
    places = _list([f"{point.file} {point.codec} {point.setting}" for point in points])
    return f" Beyond the anchor's PSNRs, and so not checked: {places}."


def _list(words: Sequence[str]) -> str:
    return ", ".join(words)
