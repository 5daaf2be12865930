"""The speed benchmark: which cases are measured, each in a process of its own, and its report."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from codec.arch.presets import load_preset
from codec.bench.cases import Case, cases_of_file, made_cases
from codec.bench.decoding import DecodeReport, measure_decoding, subject_of
from codec.bench.growth import Figure, Growth, fit_growth
from codec.bench.machine import Machine, describe_machine
from codec.bench.memory import Memory, decoding_peak, training_peak
from codec.bench.peaks import Peak, measure_peak
from codec.bench.processes import run_in_process
from codec.bench.startup import ProcessTime, measure_decode_command, measure_startup
from codec.bitstream.chunks import MAGIC
from codec.errors import UsageError
from codec.media.files import checked_input

if TYPE_CHECKING:
    from codec.bench.steps import StepReport

PARTS = ("training", "decode", "memory", "startup")
BACKENDS = ("plain", "fused")
OnLine = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class SpeedOptions:
    """What is measured; wrong values raise UsageError on creation.

    Args:
        preset: whose networks, by name or TOML file.
        source: a picture, a clip or a .modc file (which is only decoded); None makes pictures.
        sizes: (width, height) of the stills that are made.
        frame_counts: lengths of the clips, of CIF size where they are made.
        parts: some of PARTS.
        threads: of training and decoding; decoding is also measured on one.
        repeat: rounds that count.
        steps: of the training behind a file that is made to be decoded.
    """

    preset: str
    source: str | None = None
    sizes: tuple[tuple[int, int], ...]
    frame_counts: tuple[int, ...]
    parts: tuple[str, ...] = PARTS
    threads: int
    repeat: int
    steps: int

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise UsageError(f"there is no part {part!r}; known: {', '.join(PARTS)}")
        numbers = (*self.frame_counts, *(side for size in self.sizes for side in size))
        if min((self.threads, self.repeat, self.steps, *numbers)) < 1:
            raise UsageError("sizes, frames, threads, repeat and steps are at least 1")


@dataclass(kw_only=True)
class SpeedReport:
    """All that was measured; lists of parts that were not asked for are empty.

    `date` is ISO 8601 in UTC.
    """

    date: str
    options: SpeedOptions
    machine: Machine
    peaks: list[Peak] = field(default_factory=list)
    training: list[StepReport] = field(default_factory=list)
    decoding: list[DecodeReport] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    processes: list[ProcessTime] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can carry it."""
        return asdict(self)

    def figures(self) -> Iterator[Figure]:
        """Median times and peaks of memory, of all subjects."""
        for step in self.training:
            for backend in BACKENDS:
                times = getattr(step.parts["step"], backend)
                yield Figure(step.subject, f"step, {backend}", "ms", times.median_ms)
        for decode in self.decoding:
            for times in decode.times:
                quantity = f"decode, threads {times.threads}"
                yield Figure(decode.subject, quantity, "ms", times.whole.median_ms)
        for memory in self.memory:
            yield Figure(memory.subject, memory.quantity, "bytes", memory.peak_bytes)


def measure_speed(
    options: SpeedOptions, *, command: Sequence[str], on_line: OnLine = lambda line: None
) -> SpeedReport:
    """Measure everything that the options name.

    Args:
        options: what.
        command: how a shell would start modcodec.
        on_line: is told of each case before it is measured.

    Raises:
        UsageError, InputError: a preset, clip length or file that cannot be measured.
        CodecError: a process that measured died.
    """
    return _Run(options, command, on_line).report()


class _Run:
    def __init__(self, options: SpeedOptions, command: Sequence[str], on_line: OnLine) -> None:
        self.options, self.command, self.on_line = options, command, on_line
        self.cases: list[Case] = []
        self.files: list[bytes] = []
        load_preset(options.preset)
        if options.source is None:
            made = made_cases(
                options.preset, sizes=options.sizes, frame_counts=options.frame_counts
            )
            self.cases = list(made)
            return
        data = checked_input(options.source).read_bytes()
        if data.startswith(MAGIC):
            self.files = [data]
        else:
            counts = options.frame_counts
            self.cases = list(cases_of_file(options.preset, options.source, frame_counts=counts))

    def report(self) -> SpeedReport:
        now = datetime.datetime.now(datetime.UTC)
        report = SpeedReport(
            date=now.isoformat(timespec="seconds"),
            options=self.options,
            machine=describe_machine(),
        )
        report.peaks = self._peaks()
        if "training" in self.options.parts:
            report.training = [self._training(case) for case in self.cases]
        if {"decode", "memory", "startup"} & {*self.options.parts}:
            self.files += [self._file(case) for case in self.cases]
        if "decode" in self.options.parts:
            report.decoding = [self._decoding(data) for data in self.files]
        if "memory" in self.options.parts:
            report.memory = list(self._memory())
        if "startup" in self.options.parts:
            report.processes = self._processes()
        report.growth = fit_growth(report.figures())
        return report

    def _thread_counts(self) -> list[int]:
        return sorted({1, self.options.threads})

    def _peaks(self) -> list[Peak]:
        self.on_line("peaks of the machine")
        return [run_in_process(measure_peak, threads) for threads in self._thread_counts()]

    def _training(self, case: Case) -> StepReport:
        from codec.bench.steps import measure_steps

        options = self.options
        self.on_line(f"training steps, {case.subject().name}")
        settings = {"threads": options.threads, "repeat": options.repeat}
        return run_in_process(partial(measure_steps, **settings), case)

    def _file(self, case: Case) -> bytes:
        from codec.bench.coded import make_file

        self.on_line(f"a file to decode, {case.subject().name}")
        settings = {"threads": self.options.threads, "steps": self.options.steps}
        return run_in_process(partial(make_file, **settings), case)

    def _decoding(self, data: bytes) -> DecodeReport:
        self.on_line(f"decoding, {subject_of(data).name}")
        settings = {"threads": self._thread_counts(), "repeat": self.options.repeat}
        return run_in_process(partial(measure_decoding, **settings), data)

    def _memory(self) -> Iterator[Memory]:
        threads = self.options.threads
        for case in self.cases:
            subject = case.subject()
            for backend in BACKENDS:
                self.on_line(f"memory of training, {backend}, {subject.name}")
                peak = run_in_process(training_peak, case, backend, threads)
                yield Memory(subject, f"training {backend}", peak)
        for data in self.files:
            subject = subject_of(data)
            self.on_line(f"memory of decoding, {subject.name}")
            yield Memory(subject, "decode", run_in_process(decoding_peak, data, threads))

    def _processes(self) -> list[ProcessTime]:
        settings = {"repeat": self.options.repeat}
        self.on_line("start-up")
        times = measure_startup(self.command, **settings)
        settings["threads"] = self.options.threads
        for data in self.files:
            subject = subject_of(data)
            self.on_line(f"the command decode, {subject.name}")
            times.append(measure_decode_command(self.command, data, subject, **settings))
        return times
