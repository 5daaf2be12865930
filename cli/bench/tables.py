"""The report of `modcodec bench speed` as tables of at most 100 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codec.bench.cases import Subject
    from codec.bench.decoding import DecodeReport
    from codec.bench.growth import Growth
    from codec.bench.memory import Memory
    from codec.bench.peaks import Peak
    from codec.bench.speed import SpeedReport
    from codec.bench.startup import ProcessTime
    from codec.bench.steps import StepReport
    from codec.bench.timing import Times

MIB = 1 << 20
NAME_WIDTH = 22
COLUMN = 15


def lines(report: SpeedReport) -> Iterator[str]:
    """All tables of a report, in the order of its parts."""
    yield from _head(report)
    for step in report.training:
        yield from _training(step, report.peaks)
    for decode in report.decoding:
        yield from _decoding(decode)
    if report.memory:
        yield from _memory(report.memory, report.growth)
    if report.growth:
        yield from _growth(report.growth)
    if report.processes:
        yield from _processes(report.processes)


def _head(report: SpeedReport) -> Iterator[str]:
    machine, versions = report.machine, report.machine.versions
    yield f"{machine.cpu}, {machine.usable_cores} cores, {' '.join(machine.extensions)}"
    packages = ", ".join(f"{name} {versions[name]}" for name in ("modcodec", "torch", "numba"))
    yield f"{packages}, Python {machine.python}"
    options = report.options
    yield f"{report.date}, preset {options.preset}, {options.repeat} rounds"
    for peak in report.peaks:
        yield (
            f"peak on {_threads(peak.threads)}: {peak.gmac_s:.1f} G multiply-adds/s from"
            f" registers, {peak.copy_gb_s:.1f} GB/s read and written by a copy"
        )


def _training(step: StepReport, peaks: Sequence[Peak]) -> Iterator[str]:
    (peak,) = (p.gmac_s for p in peaks if p.threads == step.threads)
    yield ""
    yield f"training step, {_describe(step.subject)}, {_threads(step.threads)}"
    yield _row("ms: median (least)", ["plain", "fused", "ratio", "Gmac/s fused", "of the peak"])
    for name, times in step.parts.items():
        cells = [_times(times.plain), _times(times.fused), f"{times.ratio:.2f}"]
        if name in step.kernels:
            rate = step.kernels[name].fused_gmac_s
            cells += [f"{rate:.1f}", f"{100 * rate / peak:.0f} %"]
        yield _row(name, cells)
    yield _row("ns/pixel", [f"{value:.0f}" for value in step.ns_per_pixel.values()])


def _decoding(decode: DecodeReport) -> Iterator[str]:
    yield ""
    yield f"decoding, {_describe(decode.subject)}"
    yield (
        f"{decode.size_bytes} bytes, {decode.bits_per_pixel:.3f} bits/pixel,"
        f" {decode.coded_latents_per_pixel:.3f} latents/pixel in grids that are not zero"
    )
    yield _row("ms: median (least)", [_threads(times.threads) for times in decode.times])
    for part in decode.times[0].parts:
        yield _row(part, [_times(times.parts[part]) for times in decode.times])
    yield _row("open_stream, frames", [_times(times.whole) for times in decode.times])
    yield _row("frames/s", [f"{times.frames_per_s:.2f}" for times in decode.times])
    yield _row("ns/pixel", [f"{times.ns_per_pixel:.0f}" for times in decode.times])


def _memory(memory: Sequence[Memory], growth: Sequence[Growth]) -> Iterator[str]:
    works = list(dict.fromkeys(one.work for one in memory))
    yield ""
    yield "peak memory, MiB (bytes a pixel beyond the fixed part, which is told below)"
    yield _row("", works)
    for name in dict.fromkeys(one.subject.name for one in memory):
        cells = {one.work: _peak(one, growth) for one in memory if one.subject.name == name}
        yield _row(name, [cells.get(work, "") for work in works])


def _peak(memory: Memory, growth: Sequence[Growth]) -> str:
    text = f"{memory.peak_bytes / MIB:.0f}"
    for line in growth:
        if line.quantity == memory.quantity and line.kind == memory.subject.kind:
            beyond = (memory.peak_bytes - line.fixed) / memory.subject.num_pixels
            return f"{text} ({beyond:.0f})"
    return text


def _growth(growth: Sequence[Growth]) -> Iterator[str]:
    yield ""
    yield _row("growth with pixels", ["", "of", "fixed", "a pixel"])
    for line in growth:
        if line.unit == "ms":
            cells = [f"{line.fixed:.0f} ms", f"{line.per_pixel * 1e6:.0f} ns"]
        else:
            cells = [f"{line.fixed / MIB:.0f} MiB", f"{line.per_pixel:.0f} bytes"]
        yield _row(line.quantity, ["", line.kind, *cells])


def _processes(processes: Sequence[ProcessTime]) -> Iterator[str]:
    yield ""
    yield "whole processes, ms: median (least)"
    for process in processes:
        yield f"{process.what:<{NAME_WIDTH + 2 * COLUMN}}{_times(process.times):>{COLUMN}}"


def _describe(subject: Subject) -> str:
    macs = subject.entropy_macs + subject.picture_macs
    return (
        f"{subject.name} {subject.pixel_format}, {subject.latents_per_pixel:.2f} latents/pixel,"
        f" {macs:.0f} MAC/pixel"
    )


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"


def _times(times: Times) -> str:
    return f"{_number(times.median_ms)} ({_number(times.min_ms)})"


def _number(value_ms: float) -> str:
    return f"{value_ms:.0f}" if value_ms >= 100 else f"{value_ms:.1f}"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<{NAME_WIDTH}}" + "".join(f"{cell:>{COLUMN}}" for cell in cells)
