"""One encode from its first frame to its report: every segment is trained, frozen and coded."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import median_low
from typing import Any, BinaryIO

from torch import Tensor

from codec.arch import Architecture
from codec.arch.presets import load_preset
from codec.bitstream.chunks import VERSION
from codec.bitstream.network import write_network
from codec.bitstream.writer import StreamWriter, write_still
from codec.encoder.coding import Coded, code_segment
from codec.encoder.finish import Finisher
from codec.encoder.pace import Pace, steps_for_time, work_of
from codec.encoder.resume import Checkpoint, Finished, frames_digest
from codec.encoder.starts import is_worth_starting_from_trained, start_from
from codec.encoder.target import LEAST_SHARE, Tools, Window, psnr_of, search
from codec.encoder.tasks import check_size, choose_device, make_task, preset_steps
from codec.encoder.trial import choose, plans_for, trials_work
from codec.errors import CodecError, InputError, TargetError, UsageError
from codec.freeze.measure import Frozen, network_bits
from codec.freeze.quantize import START_EXPONENTS, quantize_network, to_arrays
from codec.media.frames import Clip, Frame
from codec.media.metrics import psnr_from_mse, sequence_psnr
from codec.model.segment import SegmentModel
from codec.options import EncodeOptions, EncodeReport, EncodeTarget, Progress
from codec.segments import balanced_length, cut_frames, segment_length
from codec.training.backend import backend_for
from codec.training.control import Goal
from codec.training.memory import keep_freed_memory
from codec.training.states import Cost, Task, Trained
from codec.training.trainer import Trainer

OnProgress = Callable[[Progress], None]
# Bytes that end a clip, and those of its index for each segment.
LEAST_END_BYTES, MOST_END_BYTES, INDEX_BYTES = 14, 24, 10
# What is left of the bits of networks when their steps are chosen, measured on pictures.
COARSER_STEPS = 0.5


def encode_clip(
    clip: Clip,
    file: BinaryIO,
    *,
    options: EncodeOptions,
    on_progress: OnProgress | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> EncodeReport:
    """Encode an opened source to a binary file, which need not be seekable.

    Args:
        clip: its frames are read as they are needed.
        file: opened for writing bytes.
        options: what was asked for.
        on_progress: called with each step forward.
        checkpoint: a file that keeps what was made so far, now and then and when an interrupt or a
            failure ends the encode; it is left to the caller to remove it.
        resume: whether to go on with what `checkpoint` keeps, if it is there.

    Raises:
        InputError: the source cannot be encoded, or is not the one of the checkpoint.
        UsageError: a preset or device that does not exist, or a checkpoint of other options.
        TargetError: the target was not reached.
    """
    encode = _Encode(clip, file, options, on_progress or (lambda _: None), checkpoint)
    if resume:
        encode.checkpoint.load()
    return encode.run()


@dataclass
class _Totals:
    errors: list[float] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    network_bytes: int = 0
    latent_bytes: int = 0
    steps: int = 0
    rd_lambdas: list[float] = field(default_factory=list)

    def add(self, finished: Finished) -> None:
        coded = finished.coded
        self.errors += coded.errors
        self.hashes += coded.segment.frame_hashes
        self.network_bytes += len(write_network(coded.network))
        self.latent_bytes += sum(map(len, coded.segment.substreams))
        self.steps += finished.steps
        self.rd_lambdas.append(finished.rd_lambda)


class _Encode:
    """One encode: its options resolved, and what was made so far."""

    def __init__(
        self,
        clip: Clip,
        file: BinaryIO,
        options: EncodeOptions,
        on_progress: OnProgress,
        checkpoint: Path | None,
    ) -> None:
        self.clip, self.file, self.options, self.on_progress = clip, file, options, on_progress
        check_size(clip.info)
        self.preset = load_preset(options.preset)
        self.device = choose_device(options.device)
        self.threads = options.threads or os.cpu_count() or 1
        size = (clip.info.height, clip.info.width)
        limit = {"max_memory_bytes": options.max_memory_bytes, "device_type": self.device.type}
        self.length = segment_length(*size, **limit)
        self.target = None if options.target is None else EncodeTarget.parse(options.target)
        self.checkpoint = Checkpoint(checkpoint, self._identity(), clip.info)
        self.started = time.monotonic()
        self.pace = Pace()
        self.totals = _Totals()
        # The networks of the last segment of each architecture, for later ones to start from.
        self.trained: dict[Architecture, Mapping[str, Tensor]] = {}
        self.writer: StreamWriter | None = None
        # Scene cuts make more of them.
        self.num_segments = math.ceil(self._frames_left(0) / self.length)
        if self.target and self.target.kind != "psnr" and not self._num_frames:
            raise UsageError("a target of size needs to know the number of frames; give --limit")

    @property
    def _num_frames(self) -> int | None:
        """Frames that the source has, or promises to have; None if it does not say."""
        return self.clip.num_frames or self.clip.expected_frames or self.options.limit

    def _frames_left(self, first_frame: int) -> int:
        """Frames from one on, as far as the source tells their number, else 1."""
        return max(1, (self._num_frames or 1) - first_frame)

    def run(self) -> EncodeReport:
        keep_freed_memory()
        backend_for(self.device).use_threads(self.threads)
        try:
            size_bytes = self._run_still() if self.clip.info.is_still else self._run_clip()
        except CodecError:
            raise
        except BaseException:
            self.checkpoint.write()
            raise
        return self._report(size_bytes)

    def _run_still(self) -> int:
        return self._write_still(self.file, self._make(list(self.clip.frames), 0, 0))

    def _write_still(self, file: BinaryIO, coded: Coded) -> int:
        return write_still(
            file,
            self.clip.info,
            network=coded.network,
            segment=coded.segment,
            metadata=self.clip.metadata,
        )

    def _run_clip(self) -> int:
        clip = self.clip
        writer = StreamWriter(self.file, clip.info, metadata=clip.metadata, audio=clip.audio)
        self.writer = writer
        first = 0
        for index, frames in enumerate(self._segments()):
            coded = self._make(frames, first, index)
            writer.network(index, coded.network)
            writer.segment(coded.segment)
            first += len(frames)
        if first == 0:
            raise InputError("the source has no frames in the range that was asked for")
        writer.finish()
        self._check_rate(first)
        return writer.num_bytes

    def _segments(self) -> Iterator[list[Frame]]:
        clip = self.clip
        peak, num_frames = clip.info.format.peak, self._num_frames
        return cut_frames(iter(clip.frames), self.length, peak=peak, num_frames=num_frames)

    def _check_rate(self, num_frames: int) -> None:
        """Fewer frames than the source promised leave bytes over, or spend too many a frame."""
        if self.target is None or self.target.kind == "psnr":
            return
        most = self._most_bytes(num_frames)
        if not LEAST_SHARE * most <= self.writer.num_bytes <= most:
            raise TargetError(
                f"the target of {self.target} was not reached with the {num_frames} frames that"
                f" the source has: {self.writer.num_bytes} bytes; give --limit {num_frames}"
            )

    def _make(self, frames: list[Frame], first_frame: int, index: int) -> Coded:
        """Code a segment, or take it from the checkpoint."""
        frames_behind = max(0, self._frames_left(first_frame) - len(frames))
        self.num_segments = index + 1 + math.ceil(frames_behind / self.length)
        digest = frames_digest(frames)
        finished = self.checkpoint.finished(index, digest)
        if finished is None:
            finished = self._fit(frames, digest, first_frame=first_frame, index=index)
            gc.collect()  # A trainer and its phase hold each other, and with them a segment.
            self.checkpoint.keep_finished(digest, finished)
        self.totals.add(finished)
        if finished.weights:
            self.trained[finished.coded.network.arch] = finished.weights
        return finished.coded

    def _fit(self, frames: list[Frame], digest: str, *, first_frame: int, index: int) -> Finished:
        task = self._task(frames)
        steps = self._steps(task)
        if task.arch in self.trained:
            task = start_from(task, self.trained[task.arch])
        window = self._window(first_frame, len(frames))

        def on_step(step: int, num_steps: int, cost: Cost) -> None:
            self._tell("train" if step <= steps else "target", cost, step=step, segment=index)

        def finish(trained: Trained, rd_lambda: float) -> Finisher:
            self._tell("freeze", trained.cost, step=trainer.step, segment=index)
            how = {"rd_lambda": rd_lambda, "steps": steps, "threads": self.threads}
            return Finisher(task, trained, **how)

        def code(frozen: Frozen) -> Coded:
            ids = {"first_frame": first_frame, "network_id": index}
            return code_segment(frozen, task, **ids, threads=self.threads)

        trainer = Trainer(task, on_step, goal=self._goal(window, task))
        trained = trainer.run(
            steps,
            snapshot=self.checkpoint.training(digest),
            on_snapshot=lambda snapshot: self.checkpoint.keep_training(digest, snapshot),
        )
        if window is None:
            rd_lambda = trainer.rd_lambda
            coded = code(finish(trained, rd_lambda).at(rd_lambda))
        else:
            tools = Tools(finish, code, self._measure)
            coded, rd_lambda = search(trainer, trained, window, steps=steps, tools=tools)
        weights = trained.model.state_dict() if is_worth_starting_from_trained(steps) else {}
        return Finished(coded, rd_lambda, trainer.step, weights)

    def _task(self, frames: list[Frame]) -> Task:
        """What is fitted to a segment; small pictures try several networks and take the best."""
        how = {"rd_lambda": self.options.effective_lambda, "seed": self.options.seed}
        how |= {"device": self.device, "threads": self.threads, "known": self.trained}
        plans = plans_for(self.preset, self.clip.info, len(frames))
        tasks = [make_task(frames, self.clip.info, self.preset, plan, **how) for plan in plans]
        if len(tasks) == 1:
            return tasks[0]
        if self.checkpoint.choice is None:
            steps = self._steps(tasks[0])
            self._tell("choose", Cost.unknown(), step=0, segment=0)
            self.checkpoint.choice = choose(tasks, steps=steps, threads=self.threads)
        return tasks[self.checkpoint.choice]

    def _steps(self, task: Task) -> int:
        """Training steps of each segment; the first time they are planned and announced."""
        if self.pace.is_planned:
            return self.checkpoint.steps
        step_seconds = Trainer(task, lambda *_: None).measure_step()
        # Steps take as long as they have pixels, and scene cuts make segments of any length.
        parts_left = max(1.0, self._frames_left(len(self.totals.errors)) / len(task.frames))
        steps = self.checkpoint.steps or self.options.steps
        if steps is None and self.options.time_s is not None:
            seconds = self.options.time_s / parts_left
            steps = steps_for_time(seconds, step_seconds, self._work)
        elif steps is None:
            num_frames = balanced_length(self.length, self._num_frames)
            steps = preset_steps(self.preset, self.clip.info, num_frames)
        self.checkpoint.steps = steps
        self.pace.plan(step_seconds * self._work(steps) * parts_left)
        self._tell("estimate", Cost.unknown(), step=0, segment=0)
        return steps

    def _work(self, steps: int) -> float:
        """All work of a segment with so many steps, in units of a plain step."""
        work = work_of(steps, is_search=self.target is not None)
        info = self.clip.info
        if not info.is_still:
            return work
        num_networks = len(plans_for(self.preset, info, 1))
        return work + trials_work(steps, info.width * info.height, num_networks)

    def _window(self, first_frame: int, num_frames: int) -> Window | None:
        """What a segment shall reach; of the bytes that are left it gets its share by frames."""
        if self.target is None:
            return None
        if self.target.kind == "psnr":
            return Window.of_psnr(self.target.value)
        most = self._most_bytes(self._num_frames or 1)
        if self.writer is None:
            return Window.of_size(LEAST_SHARE * most, most)
        used, frames_left = self.writer.num_bytes, self._num_frames - first_frame
        rest = most - used - MOST_END_BYTES - INDEX_BYTES * self.num_segments
        share = rest * num_frames // max(num_frames, frames_left)
        if share <= 0:
            raise TargetError(
                f"the target of {self.target} was not reached; header and sound alone are"
                f" {used} bytes"
            )
        if num_frames < frames_left:
            return Window.of_size(LEAST_SHARE * share, share)
        least = max(1, LEAST_SHARE * most - used - LEAST_END_BYTES)
        return Window.of_size(min(least, share), share)

    def _most_bytes(self, num_frames: int) -> int:
        """The whole file's, of a target of size or rate."""
        if self.target.kind == "size":
            return int(self.target.value)
        num_pixels = num_frames * self.clip.info.width * self.clip.info.height
        return self._sound_bytes + int(self.target.value * num_pixels) // 8

    @property
    def _sound_bytes(self) -> int:
        audio = self.clip.audio
        return sum(len(data) for _, _, data in audio.packets) if audio else 0

    def _measure(self, coded: Coded) -> float:
        """What the window of a segment is about."""
        if self.target.kind == "psnr":
            return psnr_of(coded, self.clip.info.format.peak)
        if self.writer is None:
            return math.log(self._write_still(BytesIO(), coded))
        segment = coded.segment
        return math.log(self.writer.size_of(segment.network_id, coded.network, segment))

    def _goal(self, window: Window | None, task: Task) -> Goal | None:
        """What training is steered to on its way to the window."""
        if window is None:
            return None

        def network_bpp(model: SegmentModel) -> float:
            network = quantize_network(task.arch, to_arrays(model.tensors()), START_EXPONENTS)
            return COARSER_STEPS * network_bits(network) / task.num_pixels

        if self.target.kind == "psnr":
            return Goal("psnr", self.target.value, network_bpp)
        return Goal("bpp", 8 * math.exp(window.middle) / task.num_pixels, network_bpp)

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree in."""
        info, options = self.clip.info, self.options
        return {
            "format": VERSION,
            "preset": f"{self.preset.name} {self.preset.digest}",
            "rd_lambda": options.effective_lambda,
            "target": options.target,
            "seed": options.seed,
            "steps": options.steps,
            "skip": options.skip,
            "segment length (--max-memory)": None if info.is_still else self.length,
            "size": f"{info.width}x{info.height}",
            "pixels": str(info.format),
            "device": self.device.type,
        }

    def _tell(self, stage: str, cost: Cost, *, step: int, segment: int) -> None:
        each = self.checkpoint.steps
        num_steps = each * self.num_segments
        done = segment * each + min(step, each)
        self.on_progress(
            Progress(
                stage=stage,
                step=done,
                num_steps=num_steps,
                bpp=cost.bpp,
                psnr_db=cost.psnr_db,
                seconds_left=self.pace.seconds_left(done, num_steps),
                segment=segment,
                num_segments=self.num_segments,
            )
        )

    def _report(self, size_bytes: int) -> EncodeReport:
        info, totals, peak = self.clip.info, self.totals, self.clip.info.format.peak
        num_frames = len(totals.errors)
        return EncodeReport(
            size_bytes=size_bytes,
            network_bytes=totals.network_bytes,
            latent_bytes=totals.latent_bytes,
            bpp=8 * (size_bytes - self._sound_bytes) / (num_frames * info.width * info.height),
            psnr_db=sequence_psnr(totals.errors, peak),
            num_frames=num_frames,
            width=info.width,
            height=info.height,
            seconds=time.monotonic() - self.started,
            steps=totals.steps,
            rd_lambda=median_low(totals.rd_lambdas),
            preset=self.preset.name,
            seed=self.options.seed,
            frame_psnr_db=tuple(psnr_from_mse(mse, peak) for mse in totals.errors),
            frame_hashes=tuple(totals.hashes),
            notes=self.clip.notes,
        )
