"""Points of curves: those measured here, kept in a file as they come, and published ones."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codec.bench.kinds import CLIPS
from codec.errors import InputError
from codec.media.files import checked_input, reason
from codec.outputs import Existing, atomic_output, may_write

if TYPE_CHECKING:
    from codec.bench.inputs import Input

FORMAT = "modcodec bench rd 1"
# Hash of the file, frames of it, codec, setting, identity of the codec.
Key = tuple[str, int, str, str, str]
# Curves by the name of a file and the name of a codec: (bits a pixel, PSNR in dB).
Curves = Mapping[str, Mapping[str, list[tuple[float, float]]]]


@dataclass(frozen=True)
class Published:
    """Points from elsewhere: the name of their file, curves, and of how many frames they are.

    `num_frames` goes by the name of a file and holds what is stated.
    """

    name: str
    curves: Curves
    num_frames: Mapping[str, int]

    def refusal(self, one: Input) -> str | None:
        """Why its points of an input do not count, if so: they are of another number of frames."""
        if one.name not in self.curves:
            return None
        stated = self.num_frames.get(one.name, None if one.kind is CLIPS else 1)
        if stated == one.num_frames:
            return None
        found = "do not say of how many frames they are" if stated is None else f"are of {stated}"
        found += "" if stated is None else f" frame{'s' * (stated != 1)}"
        return (
            f"{self.name}: its points of {one.name} are left out: they {found}, and"
            f" {one.num_frames} are compared here"
        )


@dataclass(frozen=True, kw_only=True)
class Point:
    """One file of one codec, decoded.

    `file` is the stem of the input's name and `file_hash` the SHA-256 of its bytes; `identity` is
    that of the contestant. `decode_s` is the least of some decodes in this process, `encode_s` of
    one whole encode. `network_bytes`, of `size_bytes`, are None for codecs without networks.
    `frame_psnr_db` has the frames of a clip in order, and nothing of a picture.
    """

    file: str
    file_hash: str
    codec: str
    setting: str
    identity: str
    threads: int
    size_bytes: int
    network_bytes: int | None
    bpp: float
    psnr_db: float
    encode_s: float
    decode_s: float
    num_frames: int = 1
    frame_psnr_db: tuple[float, ...] = ()

    @property
    def key(self) -> Key:
        """Points with the same key need not be measured again."""
        return self.file_hash, self.num_frames, self.codec, self.setting, self.identity


class PointStore:
    """Points by their keys, in a JSON file that is whole after each of them, or only in memory.

    One process at a time may have the file.
    """

    def __init__(self, path: str | None) -> None:
        """Read the file, if there is one.

        Raises:
            InputError: it is something else than such a file.
            OutputError: it cannot be written.
        """
        self.path = path
        self._points: dict[Key, Point] = {}
        if path is None:
            return
        may_write(path, Existing.OVERWRITE)
        if Path(path).exists():
            self._points = {point.key: point for point in _read_points(path)}

    def __len__(self) -> int:
        return len(self._points)

    def get(self, key: Key) -> Point | None:
        """The point with this key, if it was measured."""
        return self._points.get(key)

    def add(self, point: Point) -> None:
        """Keep a point, on disk too."""
        self._points[point.key] = point
        self.write()

    def write(self, reports: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Write all points, and what was made of them, over the file."""
        if self.path is None:
            return
        content = {"format": FORMAT, "points": [asdict(point) for point in self._points.values()]}
        if reports is not None:
            content["reports"] = reports
        with atomic_output(self.path, Existing.OVERWRITE) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_published(path: str) -> Published:
    """Points of a JSON file {file: {codec: [{"bpp": ..., "psnr": ...}, ...]}}, psnr in dB.

    Beside the codecs of a clip, {"_meta": {"frames": ...}} says of how many frames they are.
    Whatever else stands beside bpp and psnr, and names that begin with `_`, say nothing here.

    Raises:
        InputError: the file cannot be read, or is something else.
    """
    content = _read_json(path)
    try:
        curves = {
            file: {codec: list(_pairs(points)) for codec, points in _named(codecs)}
            for file, codecs in _named(content)
        }
        stated = {file: codecs.get("_meta", {}).get("frames") for file, codecs in _named(content)}
        counts = {file: int(count) for file, count in stated.items() if count is not None}
        return Published(Path(path).name, curves, counts)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        form = '{file: {codec: [{"bpp": ..., "psnr": ...}, ...]}}'
        raise InputError(f"{path}: is not of the form {form}") from error


def _named(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in values.items() if not name.startswith("_"))


def _pairs(points: list[Mapping[str, Any]]) -> Iterator[tuple[float, float]]:
    for point in points:
        bpp, psnr_db = float(point["bpp"]), float(point["psnr"])
        if not 0 < bpp < math.inf or math.isnan(psnr_db):
            raise ValueError("rates are numbers above 0")
        yield bpp, psnr_db


def _read_points(path: str) -> list[Point]:
    content = _read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: is no file of `modcodec bench rd`; name another with --json")
    try:
        return [_point(values) for values in content["points"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: its points are not complete; name another file") from error


def _point(values: Mapping[str, Any]) -> Point:
    return Point(**{**values, "frame_psnr_db": tuple(values.get("frame_psnr_db", ()))})


def _read_json(path: str) -> Any:
    try:
        return json.loads(checked_input(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not JSON: {reason(error)}") from error
