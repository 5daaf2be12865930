"""From a picture or clip to a stream: cut, train, freeze, code, and check what was written."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import ceil
from typing import BinaryIO

import numpy as np
import torch

from codec.arch import numerics_for_depth
from codec.arch.presets import (
    CLIP_REFERENCE_PIXELS,
    IMAGE_REFERENCE_PIXELS,
    Preset,
    build_architecture,
    load_preset,
    training_steps,
)
from codec.bitstream.elements import Network, Partition, Segment
from codec.bitstream.limits import Limits
from codec.bitstream.network import write_network
from codec.bitstream.writer import StreamWriter, write_still
from codec.errors import InputError, UsageError
from codec.fixedpoint.entropy import decode_latents, encode_latents
from codec.fixedpoint.noise import noise_planes
from codec.fixedpoint.pictures import frame_hash, frames_from_channels
from codec.fixedpoint.program import Program, load_network
from codec.fixedpoint.render import render
from codec.fixedpoint.stack import channel_levels
from codec.freeze.latents import change_latents
from codec.freeze.measure import Frozen, Meter, Target
from codec.freeze.quantize import to_arrays
from codec.freeze.search import freeze
from codec.layers.quantizers import hard_round
from codec.media.frames import Clip, ClipInfo, Frame
from codec.media.metrics import frame_mse, psnr_from_mse, sequence_psnr
from codec.media.sources import open_source
from codec.media.y4m import read_y4m
from codec.options import EncodeOptions, EncodeReport, Progress
from codec.segments import cut_frames, segment_length
from codec.training.backend import backend_for
from codec.training.memory import keep_freed_memory
from codec.training.slopes import distortion_slopes
from codec.training.trainer import Cost, Task, Trainer

OnProgress = Callable[[Progress], None]
# A pass over latents takes about twice as long as a training step.
STEPS_PER_PASS = 20
LATENTS_PER_BAND = 1 << 20
MOST_BANDS = 8


def encode_file(
    source: str | os.PathLike,
    output: str | os.PathLike,
    *,
    options: EncodeOptions,
    on_progress: OnProgress | None = None,
) -> EncodeReport:
    """Encode a picture or clip (`-`: y4m on standard input) to a file, written as it goes on.

    Raises:
        InputError: the source cannot be read.
        UsageError: a preset or device that does not exist.
    """
    selection = {"skip": options.skip, "limit": options.limit}
    if source == "-":
        clip = read_y4m(sys.stdin.buffer, **selection)
    else:
        clip = open_source(source, **selection)
    with open(output, "wb") as file:
        return encode_clip(clip, file, options=options, on_progress=on_progress)


def encode_clip(
    clip: Clip, file: BinaryIO, *, options: EncodeOptions, on_progress: OnProgress | None = None
) -> EncodeReport:
    """Encode an opened source to a binary file, which need not be seekable."""
    return _Encode(clip, file, options, on_progress or (lambda _: None)).run()


def choose_device(name: str) -> torch.device:
    """The device to train on; "auto" is CUDA where there is one.

    Raises:
        UsageError: CUDA was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device here; use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _check_size(info: ClipInfo) -> None:
    if info.height * info.width > Limits().max_pixels:
        raise InputError(
            f"{info.width}x{info.height} is more than the {Limits().max_pixels} samples that "
            "decoders accept; make it smaller"
        )


@dataclass
class _Coded:
    """One finished segment and the errors of its frames."""

    network: Network
    segment: Segment
    errors: list[float]


@dataclass
class _Totals:
    errors: list[float] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    network_bytes: int = 0
    latent_bytes: int = 0
    steps: int = 0


class _Encode:
    """One encode: its options resolved, and what was made so far."""

    def __init__(
        self, clip: Clip, file: BinaryIO, options: EncodeOptions, on_progress: OnProgress
    ) -> None:
        self.clip, self.file, self.options, self.on_progress = clip, file, options, on_progress
        _check_size(clip.info)
        self.preset: Preset = load_preset(options.preset)
        self.device = choose_device(options.device)
        self.threads = options.threads or os.cpu_count() or 1
        self.length = segment_length(clip.info.height, clip.info.width)
        self.started = time.monotonic()
        self.seconds_expected = 0.0
        self.totals = _Totals()

    @property
    def expected_frames(self) -> int | None:
        """Frames that the source has, or promises to have; None if it does not say."""
        return self.clip.num_frames or self.clip.expected_frames

    @property
    def steps(self) -> int:
        """Training steps of a segment."""
        if self.options.steps:
            return self.options.steps
        clip, preset = self.clip, self.preset
        num_pixels = clip.info.height * clip.info.width
        if clip.info.is_still:
            reference = IMAGE_REFERENCE_PIXELS
            return training_steps(preset.image.steps, num_pixels, reference_pixels=reference)
        num_pixels *= min(self.expected_frames or self.length, self.length)
        reference = CLIP_REFERENCE_PIXELS
        return training_steps(preset.clip.steps, num_pixels, reference_pixels=reference)

    @property
    def num_segments(self) -> int:
        """Segments as far as the source tells their number, else 1."""
        return ceil((self.expected_frames or 1) / self.length)

    def run(self) -> EncodeReport:
        keep_freed_memory()
        return self._report(self._run_still() if self.clip.info.is_still else self._run_clip())

    def _run_still(self) -> int:
        clip = self.clip
        coded = self._code(list(clip.frames), first_frame=0, index=0)
        return write_still(
            self.file,
            clip.info,
            network=coded.network,
            segment=coded.segment,
            metadata=clip.metadata,
        )

    def _run_clip(self) -> int:
        clip = self.clip
        writer = StreamWriter(self.file, clip.info, metadata=clip.metadata, audio=clip.audio)
        first = 0
        for index, frames in enumerate(cut_frames(iter(self.clip.frames), self.length)):
            coded = self._code(frames, first_frame=first, index=index)
            writer.network(index, coded.network)
            writer.segment(coded.segment)
            first += len(frames)
        if first == 0:
            raise InputError("the source has no frames in the range that was asked for")
        writer.finish()
        return writer.num_bytes

    def _code(self, frames: list[Frame], *, first_frame: int, index: int) -> _Coded:
        task = self._task(frames)
        backend_for(self.device).use_threads(self.threads)
        if index == 0:
            self._announce(task)
        frozen = self._fit(task, index)
        coded = code_segment(
            frozen, task, first_frame=first_frame, network_id=index, threads=self.threads
        )
        self.totals.errors += coded.errors
        self.totals.hashes += coded.segment.frame_hashes
        self.totals.network_bytes += len(write_network(coded.network))
        self.totals.latent_bytes += sum(map(len, coded.segment.substreams))
        self.totals.steps += self.steps
        return coded

    def _task(self, frames: list[Frame]) -> Task:
        info, preset = self.clip.info, self.preset
        size = {"height": info.height, "width": info.width}
        arch = build_architecture(
            preset.image if len(frames) == 1 else preset.clip,
            num_channels=info.format.num_planes,
            num_frames=len(frames),
            **size,
        )
        task = Task(
            frames=frames,
            format=info.format,
            **size,
            arch=arch,
            numerics=numerics_for_depth(info.format.coded_depth),
            rd_lambda=self.options.effective_lambda,
            recipe=preset.training,
            seed=self.options.seed,
            device=self.device,
        )
        return replace(task, noise=noise_tensor(task)) if arch.common_randomness else task

    def _announce(self, task: Task) -> None:
        each = Trainer(task, lambda step, total, cost: None).measure_step()
        self.seconds_expected = each * self.steps * self.num_segments
        self._tell("estimate", Cost.unknown(), step=0, segment=0)

    def _fit(self, task: Task, index: int) -> Frozen:
        def on_step(step: int, num_steps: int, cost: Cost) -> None:
            self._tell("train", cost, step=index * num_steps + step, segment=index)

        trained = Trainer(task, on_step).run(self.steps)
        self._tell("freeze", trained.cost, step=(index + 1) * self.steps, segment=index)
        latents = [hard_round(latent).cpu().numpy() for latent in trained.latents]
        target = Target(
            frames=task.frames,
            format=task.format,
            height=task.height,
            width=task.width,
            rd_lambda=task.rd_lambda,
            noise_seed=task.seed,
            threads=self.threads,
        )
        arrays = to_arrays(trained.model.tensors())
        frozen = freeze(task.arch, task.numerics, arrays, latents, target)
        meter = Meter(task.arch, task.numerics, frozen.latents, target)
        slopes = distortion_slopes(task, trained)
        return change_latents(meter, frozen, slopes, passes=self.steps // STEPS_PER_PASS)

    def _tell(self, stage: str, cost: Cost, *, step: int, segment: int) -> None:
        num_steps = self.steps * self.num_segments
        elapsed = time.monotonic() - self.started
        left = elapsed / step * max(0, num_steps - step) if step else self.seconds_expected
        self.on_progress(
            Progress(
                stage=stage,
                step=step,
                num_steps=num_steps,
                bpp=cost.bpp,
                psnr_db=cost.psnr_db,
                seconds_left=left,
                segment=segment,
                num_segments=self.num_segments,
            )
        )

    def _report(self, size_bytes: int) -> EncodeReport:
        info, totals, peak = self.clip.info, self.totals, self.clip.info.format.peak
        num_frames = len(totals.errors)
        sound = sum(len(data) for _, _, data in self.clip.audio.packets) if self.clip.audio else 0
        return EncodeReport(
            size_bytes=size_bytes,
            network_bytes=totals.network_bytes,
            latent_bytes=totals.latent_bytes,
            bpp=8 * (size_bytes - sound) / (num_frames * info.width * info.height),
            psnr_db=sequence_psnr(totals.errors, peak),
            num_frames=num_frames,
            width=info.width,
            height=info.height,
            seconds=time.monotonic() - self.started,
            steps=totals.steps,
            rd_lambda=self.options.effective_lambda,
            preset=self.preset.name,
            seed=self.options.seed,
            frame_psnr_db=tuple(psnr_from_mse(mse, peak) for mse in totals.errors),
            frame_hashes=tuple(totals.hashes),
            notes=self.clip.notes,
        )


def noise_tensor(task: Task) -> torch.Tensor:
    """Planes of common randomness for training, (T, C, H, W), as the decoder will make them."""
    scale = 1 << task.numerics.feature_frac
    planes = [
        noise_planes(
            channel_levels(task.arch),
            seed=task.seed,
            frame=t,
            height=task.height,
            width=task.width,
            numerics=task.numerics,
        )
        for t in range(len(task.frames))
    ]
    return torch.from_numpy(np.stack(planes).astype(np.float32) / scale).to(task.device)


def choose_partition(latents: list[np.ndarray]) -> Partition:
    """One substream for small segments, a band for every 2^20 latents for large ones, at most 8."""
    count = sum(latent.size for latent in latents)
    return Partition(bands=min(MOST_BANDS, 1 + count // LATENTS_PER_BAND))


def code_segment(
    frozen: Frozen, task: Task, *, first_frame: int, network_id: int, threads: int
) -> _Coded:
    """Range-code the latents, decode them again, and render the frames that a decoder will show."""
    program = load_network(frozen.network, task.numerics)
    size = {"num_frames": len(task.frames), "height": task.height, "width": task.width}
    partition = choose_partition(frozen.latents)
    present, substreams = encode_latents(
        program, frozen.latents, **size, partition=partition, threads=threads
    )
    decoded = decode_latents(
        program, present, substreams, **size, partition=partition, threads=threads
    )
    same = all(np.array_equal(a, b) for a, b in zip(decoded, frozen.latents, strict=True))
    assert same, "latents did not survive their own coding"
    planes = list(_decoded_planes(program, frozen, task, threads))
    pairs = zip(task.frames, planes, strict=True)
    segment = Segment(
        first_frame=first_frame,
        num_frames=len(task.frames),
        rect=(0, 0, task.height, task.width),
        network_id=network_id,
        grid_present=present,
        substreams=substreams,
        frame_hashes=tuple(map(frame_hash, planes)),
        pts_ticks=tuple(frame.pts_ticks for frame in task.frames),
        codes=frozen.codes,
        noise_seed=task.seed if task.arch.common_randomness else 0,
        partition=partition,
    )
    errors = [frame_mse(frame, Frame(made), task.format).colour for frame, made in pairs]
    return _Coded(frozen.network, segment, errors)


def _decoded_planes(
    program: Program, frozen: Frozen, task: Task, threads: int
) -> Iterator[tuple[np.ndarray, ...]]:
    channels = render(
        program,
        frozen.latents,
        frozen.codes,
        num_frames=len(task.frames),
        height=task.height,
        width=task.width,
        noise_seed=task.seed,
        threads=threads,
    )
    for frame in channels:
        yield frames_from_channels(frame, task.format, numerics=task.numerics, threads=threads)
