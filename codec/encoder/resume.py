"""What an interrupted encode leaves, so that a later one goes on: finished segments, training."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codec.bitstream.fields import Cursor
from codec.bitstream.limits import Limits
from codec.bitstream.network import read_network, write_network
from codec.bitstream.segment import read_segment, write_segment
from codec.encoder.coding import Coded
from codec.errors import BitstreamError, InputError, UsageError
from codec.media.frames import ClipInfo, Frame
from codec.training.checkpoint import read_checkpoint, write_checkpoint
from codec.training.phase import Snapshot, of_prefix

WRITE_EVERY_S = 30.0
_TRAINING, _WEIGHTS = "training/", "{}/weights/"


def frames_digest(frames: Sequence[Frame]) -> str:
    """Tells the frames of one segment from others: samples and times."""
    digest = sha256()
    for frame in frames:
        digest.update(str(frame.pts_ticks).encode())
        for plane in frame.planes:
            digest.update(plane.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Finished:
    """A segment as it was coded, the lambda it ended with, and the steps that were made for it.

    `weights` are those of the trained model if later segments may start from them, else empty.
    """

    coded: Coded
    rd_lambda: float
    steps: int
    weights: Mapping[str, Tensor]


class Checkpoint:
    """Keeps what an encode has made so far, and puts it into a file now and then.

    Args:
        path: of the file; None keeps nothing.
        identity: all that files depend on apart from the frames; a checkpoint is taken up by an
            encode of the same identity only.
        info: the header of the stream.

    Attributes:
        steps: that were planned for each segment.
        choice: which of the networks that were tried is used.
    """

    def __init__(self, path: Path | None, identity: dict[str, Any], info: ClipInfo) -> None:
        self.path, self.identity, self.info = path, identity, info
        self.steps: int | None = None
        self.choice: int | None = None
        self._tensors: dict[str, Tensor] = {}
        self._segments: list[dict[str, Any]] = []
        self._training: dict[str, Tensor] = {}
        self._training_digest = ""
        self._written = time.monotonic()
        self._is_changed = False

    def load(self) -> None:
        """Take up what the file holds; nothing if there is none.

        Raises:
            InputError: the file is no checkpoint.
            UsageError: it is of an encode with other options.
        """
        if self.path is None or not self.path.exists():
            return
        tensors, about = read_checkpoint(self.path)
        if about.keys() != self._about().keys():
            raise InputError(f"{self.path}: not a checkpoint of this version; remove it")
        different = [k for k, v in self.identity.items() if about["identity"].get(k) != v]
        if different:
            raise UsageError(
                f"{self.path}: made with another {different[0]}"
                f" ({about['identity'].get(different[0])}); give the same options, or leave"
                " --resume away to begin anew"
            )
        self.steps, self.choice = about["steps"], about["choice"]
        self._segments = about["segments"]
        self._training_digest = about["training"]
        self._training = of_prefix(tensors, _TRAINING)
        self._tensors = {n: tensor for n, tensor in tensors.items() if not n.startswith(_TRAINING)}

    def finished(self, index: int, digest: str) -> Finished | None:
        """Segment number `index`, of frames with this digest, if it was finished.

        Raises:
            InputError: it was, but of other frames.
        """
        if index >= len(self._segments):
            return None
        about = self._segments[index]
        if about["digest"] != digest:
            raise InputError(f"the input is not the one that {self.path} was made from")
        try:
            coded = self._read(index, about["errors"])
        except BitstreamError as error:
            raise InputError(f"{self.path}: damaged ({error}); remove it to begin anew") from error
        weights = of_prefix(self._tensors, _WEIGHTS.format(index))
        return Finished(coded, about["rd_lambda"], about["steps"], weights)

    def training(self, digest: str) -> Snapshot | None:
        """The snapshot of the segment at which training was interrupted, if it has this digest."""
        return self._training if self._training and self._training_digest == digest else None

    def keep_training(self, digest: str, snapshot: Snapshot) -> None:
        """Remember the last snapshot of the segment that is trained."""
        self._training, self._training_digest, self._is_changed = snapshot, digest, True
        if time.monotonic() - self._written > WRITE_EVERY_S:
            self.write()

    def keep_finished(self, digest: str, finished: Finished) -> None:
        """Remember one more finished segment."""
        coded, index = finished.coded, len(self._segments)
        payloads = {
            "network": write_network(coded.network),
            "segment": write_segment(coded.segment, info=self.info, arch=coded.network.arch),
        }
        for name, data in payloads.items():
            self._tensors[f"{index}/{name}"] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        prefix = _WEIGHTS.format(index)
        self._tensors |= {prefix + name: tensor for name, tensor in finished.weights.items()}
        self._segments.append(
            {
                "digest": digest,
                "errors": coded.errors,
                "rd_lambda": finished.rd_lambda,
                "steps": finished.steps,
            }
        )
        self._training, self._training_digest, self._is_changed = {}, "", True

    def write(self) -> None:
        """Put what was remembered into the file, if anything was since the last time."""
        if self.path is None or not self._is_changed:
            return
        training = {f"{_TRAINING}{name}": tensor for name, tensor in self._training.items()}
        write_checkpoint(self.path, self._tensors | training, self._about())
        self._written, self._is_changed = time.monotonic(), False

    def _about(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "steps": self.steps,
            "choice": self.choice,
            "segments": self._segments,
            "training": self._training_digest,
        }

    def _read(self, index: int, errors: list[float]) -> Coded:
        network_data, segment_data = (
            self._tensors[f"{index}/{name}"].numpy().tobytes() for name in ("network", "segment")
        )
        limits = Limits()
        network = read_network(
            Cursor(network_data, what="network"), limits=limits, find_complete=_no_other_network
        )
        segment = read_segment(
            Cursor(segment_data, what="segment"),
            info=self.info,
            limits=limits,
            find_arch=lambda _: network.arch,
        )
        return Coded(network, segment, errors)


def _no_other_network(network_id: int) -> Any:
    raise BitstreamError(f"network {network_id} is not there")
