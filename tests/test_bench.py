"""Benchmarks: that they measure the work they name, all of it, and report it completely."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from cli.bench.speed import parse_sizes
from cli.bench.tables import lines
from codec.bench import cases, coded, decoding, growth, pictures, processes, speed, steps, tasks
from codec.bench.machine import describe_machine
from codec.bench.memory import Memory
from codec.bench.timing import Stopwatch, run_rounds, summary
from codec.decoder import open_stream, verify
from codec.errors import CodecError, UsageError
from codec.layers.kernels.vectors import LANES
from codec.media.frames import Frame, PixelFormat
from codec.training.backend import FUSED, PLAIN, Backend
from codec.training.trainer import Trainer

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "still.modc"
CLIP = ROOT / "samples" / "tiny_63x47.y4m"
MAX_COLUMNS = 100

torch.set_num_threads(1)


def still_case(width: int = 32, height: int = 24) -> cases.Case:
    (case,) = cases.made_cases("instant", sizes=((width, height),), frame_counts=())
    return case


def clip_case(num_frames: int = 2) -> cases.Case:
    (case,) = cases.cases_of_file("instant", str(CLIP), frame_counts=(num_frames,))
    return case


@pytest.mark.parametrize("layout", ["gray", "rgb", "yuv420"])
@pytest.mark.parametrize("depth", [8, 10])
def test_made_frames_fit_their_format_and_repeat(layout: str, depth: int) -> None:
    fmt = PixelFormat(layout, depth)
    size = {"height": 47, "width": 63, "num_frames": 3}
    made = pictures.make_frames(fmt, **size)
    assert [frame.pts_ticks for frame in made] == [0, 1, 2]
    for frame in made:
        assert [plane.shape for plane in frame.planes] == fmt.plane_shapes(47, 63)
        assert {plane.dtype for plane in frame.planes} == {np.dtype(fmt.dtype)}
        assert 0.02 < frame.planes[0].std() / fmt.peak < 0.4
    again = pictures.make_frames(fmt, **size)
    assert all(np.array_equal(a.planes[0], b.planes[0]) for a, b in zip(made, again, strict=True))
    assert not np.array_equal(made[0].planes[0], made[1].planes[0])


def test_rounds_give_every_run_its_turn() -> None:
    turns: list[str] = []

    def run(name: str) -> dict[str, float]:
        turns.append(name)
        return {"part": float(len(turns))}

    rounds = run_rounds({"a": lambda: run("a"), "b": lambda: run("b")}, 3)
    assert turns == ["a", "b"] * 4
    assert [laps["part"] for laps in rounds["a"]] == [3, 5, 7]
    assert summary([3.0, 1.0, 5.0]) == summary([5.0, 1.0, 3.0])
    assert (summary([3.0, 1.0, 5.0]).min_ms, summary([3.0, 1.0, 5.0]).median_ms) == (1.0, 3.0)


def test_laps_add_up() -> None:
    watch = Stopwatch()
    for part in ("a", "b", "a"):
        watch.lap(part)
    assert set(watch.laps_ms) == {"a", "b"}
    assert min(watch.laps_ms.values()) > 0


def test_processes_return_raise_and_die() -> None:
    assert processes.run_in_process(divmod, 7, 2) == (3, 1)
    with pytest.raises(ValueError, match="invalid literal"):
        processes.run_in_process(int, "x")
    with pytest.raises(CodecError, match="exit code 3"):
        processes.run_in_process(os._exit, 3)


def test_peak_memory_is_that_of_the_process_alone() -> None:
    ballast = np.ones(1 << 28, np.uint8)
    assert processes.peak_memory_bytes() > ballast.size
    assert 0 < processes.run_in_process(processes.peak_memory_bytes) < ballast.size


def uncut_gradients(case: cases.Case, backend: Backend, step: steps.SplitStep) -> list:
    """Gradients of one step as training computes them, of latents and networks."""
    task = tasks.whole_task(case)
    trainer = Trainer(task, lambda *news: None, backend=backend)
    model = trainer.new_candidate(0).model
    parameters = [copy.deepcopy(parameter) for parameter in step.parameters]
    trainer.loss(
        model, parameters, task.recipe.temperature[0], task.recipe.noise[0], step=0
    ).backward()
    return [p.grad for p in (*parameters, *model.trained_parameters())]


@pytest.mark.parametrize("backend", [PLAIN, FUSED], ids=lambda backend: backend.name)
@pytest.mark.parametrize("make_case", [still_case, clip_case])
def test_a_step_in_parts_has_the_gradients_of_training(make_case, backend: Backend) -> None:
    case = make_case()
    step = steps.SplitStep(tasks.whole_task(case), backend, threads=1)
    wanted = uncut_gradients(case, backend, step)
    step._gradients(Stopwatch())
    made = [p.grad for p in (*step.parameters, *step.model.trained_parameters())]
    assert any(gradient.any() for gradient in wanted)
    for a, b in zip(made, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6 * float(b.abs().max()))


def test_steps_are_reported_by_part() -> None:
    report = steps.measure_steps(still_case(), threads=1, repeat=2)
    assert (report.threads, report.rounds, report.subject.name) == (1, 2, "32x24")
    known = {*steps.GRADIENT_PARTS, *steps.OPTIMIZER_PARTS, steps.GRADIENTS, steps.STEP}
    assert set(report.parts) == known
    for part in report.parts.values():
        assert 0 < part.plain.min_ms <= part.plain.median_ms
        assert 0 < part.fused.min_ms <= part.fused.median_ms
        assert part.ratio > 0
    assert set(report.kernels) == {"picture", "rate"}
    rate, macs = report.kernels["rate"], 3 * report.subject.entropy_macs * 32 * 24
    assert rate.fused_gmac_s == pytest.approx(macs / report.parts["rate"].fused.min_ms / 1e6)


def test_latents_are_repeated_and_frames_cut_where_chroma_can_be() -> None:
    latent = np.arange(6).reshape(1, 2, 3)
    repeated = coded.repeat_to(latent, (1, 5, 4))
    assert repeated.shape == (1, 5, 4)
    for y, x in np.ndindex(5, 4):
        assert repeated[0, y, x] == latent[0, y % 2, x % 3]
    fmt = PixelFormat("yuv420", 8)
    planes = [np.arange(h * w, dtype=np.uint8).reshape(h, w) for h, w in fmt.plane_shapes(19, 22)]
    cut = coded.crop_middle(Frame(tuple(planes), 5), fmt, height=8, width=9)
    assert [plane.shape for plane in cut.planes] == fmt.plane_shapes(8, 9)
    assert cut.pts_ticks == 5
    y, x = divmod(int(cut.planes[1][0, 0]), 11)
    assert cut.planes[0][0, 0] == planes[0][2 * y, 2 * x]


@pytest.mark.parametrize("case", [still_case(300, 40), clip_case()], ids=["still", "clip"])
def test_made_files_are_decoded_by_part(case: cases.Case, monkeypatch) -> None:
    monkeypatch.setattr(coded, "STILL_PART", 32)
    monkeypatch.setattr(coded, "CLIP_PART", 32)
    data = coded.make_file(case, steps=12, threads=1)
    assert verify(data).num_frames == case.num_frames
    with open_stream(data) as stream:
        assert (stream.info.width, stream.info.height) == (case.info.width, case.info.height)
    assert decoding.subject_of(data) == case.subject()
    report = decoding.measure_decoding(data, threads=(1, 2), repeat=1)
    assert report.size_bytes == len(data)
    assert report.bits_per_pixel == pytest.approx(8 * len(data) / case.subject().num_pixels)
    assert 0 < report.coded_latents_per_pixel <= report.subject.latents_per_pixel
    assert [times.threads for times in report.times] == [1, 2]
    for times in report.times:
        assert tuple(times.parts) == decoding.PARTS
        assert min(part.min_ms for part in times.parts.values()) > 0
        assert times.frames_per_s == pytest.approx(case.num_frames / times.whole.median_ms * 1e3)


def test_growth_is_a_line_through_two_sizes_or_more() -> None:
    subjects = [still_case(32, size).subject() for size in (8, 16, 32)]
    figures = [growth.Figure(s, "step", "ms", 5 + 0.25 * s.num_pixels) for s in subjects]
    (line,) = growth.fit_growth(figures)
    assert (line.quantity, line.unit, line.kind) == ("step", "ms", "stills")
    assert line.fixed == pytest.approx(5)
    assert line.per_pixel == pytest.approx(0.25)
    assert growth.fit_growth(figures[:1]) == []


def test_figures_of_a_report_grow_by_quantity() -> None:
    subjects = [still_case(32, size).subject() for size in (8, 16)]
    report = speed.SpeedReport(date="", options=options(), machine=describe_machine())
    report.memory = [Memory(s, "decode", 1000 + s.num_pixels) for s in subjects]
    (line,) = growth.fit_growth(report.figures())
    assert (line.quantity, line.unit) == ("memory, decode", "bytes")
    report.growth = [line]
    assert max(map(len, lines(report))) <= MAX_COLUMNS


def test_machine_says_what_measured() -> None:
    machine = describe_machine()
    assert machine.cpu
    assert machine.cores >= machine.usable_cores >= 1
    assert {"torch", "numpy", "numba", "modcodec"} <= set(machine.versions)
    assert LANES == 8 or "avx512f" in machine.extensions


def test_wrong_requests_are_usage_errors(modcodec, tmp_path: Path) -> None:
    assert parse_sizes("64x48,3x2") == ((64, 48), (3, 2))
    assert parse_sizes("") == ()
    for text in ("64", "64x", "1x2x3", "axb"):
        with pytest.raises(UsageError):
            parse_sizes(text)
    for wrong in ({"parts": ("speed",)}, {"sizes": ((0, 3),)}, {"frame_counts": (0,)}):
        with pytest.raises(UsageError):
            options(**wrong)
    with pytest.raises(UsageError, match="at most"):
        speed.measure_speed(options(frame_counts=(65,)), command=[])
    with pytest.raises(UsageError, match="frames, not"):
        list(cases.cases_of_file("instant", str(CLIP), frame_counts=(60,)))
    done = modcodec("bench", "speed", "missing.png", "--part", "decode")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines()[-1].endswith("missing.png: no such file")


def options(**changes: object) -> speed.SpeedOptions:
    """A small still, one round, one thread, unless told otherwise."""
    given = {"preset": "instant", "sizes": ((32, 24),), "frame_counts": (), "threads": 1}
    return speed.SpeedOptions(**{**given, "repeat": 1, "steps": 2, **changes})


def test_a_coded_file_is_only_decoded() -> None:
    told: list[str] = []
    given = options(source=str(GOLDEN), parts=("training", "decode"))
    report = speed.measure_speed(given, command=[], on_line=told.append)
    assert [line.partition(",")[0] for line in told] == ["peaks of the machine", "decoding"]
    assert [peak.threads for peak in report.peaks] == [1]
    assert min(min(peak.gmac_s, peak.copy_gb_s) for peak in report.peaks) > 0
    assert (report.training, report.memory, report.processes) == ([], [], [])
    table = list(lines(report))
    assert any(line.startswith("entropy") for line in table)
    assert max(map(len, table)) <= MAX_COLUMNS


@pytest.mark.slow
def test_everything_is_in_the_report_of_the_command(modcodec) -> None:
    sizes = ["--sizes", "48x40", "--frames", ""]
    effort = ["--repeat", 1, "--steps", 2, "--threads", 1, "-p", "instant"]
    done = modcodec("bench", "speed", *sizes, *effort, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report) == set(speed.SpeedReport.__dataclass_fields__)
    for part in ("training", "decoding"):
        subjects = [one["subject"] for one in report[part]]
        assert [(s["width"], s["height"]) for s in subjects] == [(48, 40)]
    works = [one["work"] for one in report["memory"]]
    assert works == ["training plain", "training fused", "decode"]
    assert min(one["peak_bytes"] for one in report["memory"]) > 1 << 20
    assert {"modcodec --version", "interpreter alone"} <= {p["what"] for p in report["processes"]}
    assert any(p["what"].startswith("modcodec decode") for p in report["processes"])
    assert min(p["times"]["min_ms"] for p in report["processes"]) > 0
    assert all(line.startswith("bench: ") for line in done.stderr.splitlines())
