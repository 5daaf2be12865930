"""What points of rate and distortion say: BD-rates against an anchor, means, where it is beaten."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from codec.bench.bdrate import BdRate, RateCurve, bd_rate
from codec.bench.machine import Machine, describe_machine
from codec.bench.points import Curves, Point

if TYPE_CHECKING:
    from codec.bench.contestants import Contestant
    from codec.bench.inputs import Input
    from codec.bench.kinds import Kind


@dataclass(frozen=True)
class Behind:
    """A point of this codec where the anchor needs only `anchor_bpp` for the same PSNR or more."""

    point: Point
    anchor_bpp: float


@dataclass(frozen=True)
class Means:
    """Means of one codec and setting over so many files; times are those of Point."""

    codec: str
    setting: str
    num_files: int
    bpp: float
    psnr_db: float
    size_bytes: float
    network_bytes: float | None
    encode_s: float
    decode_s: float


@dataclass(kw_only=True)
class RdReport:
    """All that was measured and what follows from it.

    `notes` are sentences about what was left out. `codecs` are all, `own` this one's presets;
    those in `published` have points from elsewhere for at least one file. `curves` go by file and
    codec, `bd_rates` by codec and file, None where either codec has no points. `num_checked` points
    were compared with the anchor's curve and `behind` are worse; those in `unchecked` lie beyond
    it. `date` is ISO 8601 in UTC.
    """

    kind: Kind
    date: str
    command: str
    machine: Machine
    anchor: str
    files: list[str]
    codecs: list[str]
    own: list[str]
    identities: dict[str, str]
    notes: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    curves: dict[str, dict[str, RateCurve]] = field(default_factory=dict)
    means: list[Means] = field(default_factory=list)
    bd_rates: dict[str, dict[str, BdRate | None]] = field(default_factory=dict)
    behind: list[Behind] = field(default_factory=list)
    num_checked: int = 0
    unchecked: list[Point] = field(default_factory=list)

    def mean_bd_rate(self, codec: str) -> tuple[float | None, int]:
        """Mean percentage over the files that have one, and how many those are."""
        found = [rate.percent for rate in self.bd_rates[codec].values() if rate is not None]
        percents = [percent for percent in found if percent is not None]
        return (fmean(percents) if percents else None), len(percents)

    def as_dict(self) -> dict[str, Any]:
        """What JSON carries beside the points."""
        rates = {
            codec: {file: rate and asdict(rate) for file, rate in of_files.items()}
            for codec, of_files in self.bd_rates.items()
        }
        places = [
            {name: getattr(one.point, name) for name in ("file", "codec", "setting", "bpp")}
            | {"psnr_db": one.point.psnr_db, "anchor_bpp": one.anchor_bpp}
            for one in self.behind
        ]
        words = ("date", "command", "anchor", "identities", "notes")
        return {
            "kind": self.kind.name,
            **{name: getattr(self, name) for name in words},
            "machine": asdict(self.machine),
            "means": [asdict(mean) for mean in self.means],
            "bd_rates": rates,
            "mean_bd_rates": {codec: self.mean_bd_rate(codec)[0] for codec in self.codecs},
            "behind_the_anchor": places,
            "num_checked": self.num_checked,
        }


def make_report(
    points: Sequence[Point],
    inputs: Sequence[Input],
    contestants: Sequence[Contestant],
    published: Sequence[Curves],
    *,
    anchor: str,
    command: str,
    notes: Sequence[str] = (),
) -> RdReport:
    """Put together what was measured, what was published, and compute all that follows.

    The inputs are of one kind.
    """
    files = [one.name for one in inputs]
    curves, foreign = _all_curves(files, points, published)
    names = [contestant.name for contestant in contestants]
    report = RdReport(
        kind=inputs[0].kind,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command,
        machine=describe_machine(),
        anchor=anchor,
        files=files,
        codecs=[*names, *(codec for codec in foreign if codec not in names)],
        own=[contestant.name for contestant in contestants if contestant.is_own],
        identities={contestant.name: contestant.identity for contestant in contestants},
        notes=list(notes),
        published=foreign,
        points=list(points),
        curves=curves,
        means=_means(sorted(points, key=lambda point: names.index(point.codec))),
    )
    for codec in report.codecs:
        report.bd_rates[codec] = {file: _compare(curves[file], codec, anchor) for file in files}
    _check_against_anchor(report)
    return report


def _check_against_anchor(report: RdReport) -> None:
    low_bpp, high_bpp = report.kind.checked_bpp
    for point in report.points:
        if point.codec not in report.own or not low_bpp <= point.bpp <= high_bpp:
            continue
        anchor = report.curves[point.file].get(report.anchor)
        # A better picture for fewer bits is clear enough where the anchor's curve does not go.
        anchor_bpp = anchor and anchor.rate_at(max(point.psnr_db, anchor.low_db))
        if not anchor_bpp or (point.psnr_db < anchor.low_db and point.bpp <= anchor_bpp):
            report.unchecked.append(point)
            continue
        report.num_checked += 1
        if point.bpp > anchor_bpp:
            report.behind.append(Behind(point, anchor_bpp))


def _all_curves(
    files: Sequence[str], points: Sequence[Point], published: Sequence[Curves]
) -> tuple[dict[str, dict[str, RateCurve]], list[str]]:
    """Curves by file and codec, and the codecs that have a curve from elsewhere.

    What was measured here goes before what was published, and of that the first before the rest.
    """
    pairs: dict[str, dict[str, list[tuple[float, float]]]] = {file: {} for file in files}
    for point in points:
        pairs[point.file].setdefault(point.codec, []).append((point.bpp, point.psnr_db))
    foreign: dict[str, None] = {}
    for file, of_file in pairs.items():
        for source in published:
            for codec, found in source.get(file, {}).items():
                if codec not in of_file:
                    of_file[codec] = found
                    foreign[codec] = None
    return {file: _curves(codecs) for file, codecs in pairs.items()}, list(foreign)


def _curves(codecs: Mapping[str, list[tuple[float, float]]]) -> dict[str, RateCurve]:
    curves = {}
    for codec, pairs in codecs.items():
        try:
            curves[codec] = RateCurve(pairs)
        except ValueError:
            # All of its points are without error, which says nothing of rate over PSNR.
            continue
    return curves


def _compare(curves: Mapping[str, RateCurve], codec: str, anchor: str) -> BdRate | None:
    if codec not in curves or anchor not in curves:
        return None
    return bd_rate(curves[codec], curves[anchor])


def _means(points: Sequence[Point]) -> list[Means]:
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.codec, point.setting), []).append(point)
    return [_mean(group) for group in groups.values()]


def _mean(group: Sequence[Point]) -> Means:
    def over(value: Callable[[Point], float]) -> float:
        return fmean(map(value, group))

    has_networks = group[0].network_bytes is not None
    return Means(
        codec=group[0].codec,
        setting=group[0].setting,
        num_files=len(group),
        bpp=over(lambda point: point.bpp),
        psnr_db=over(lambda point: point.psnr_db),
        size_bytes=over(lambda point: point.size_bytes),
        network_bytes=over(lambda point: point.network_bytes) if has_networks else None,
        encode_s=over(lambda point: point.encode_s),
        decode_s=over(lambda point: point.decode_s),
    )
