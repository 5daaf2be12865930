"""From inputs to reports: pictures and clips are compared each among themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from codec.bench.contestants import Contestant
from codec.bench.inputs import Input
from codec.bench.kinds import KINDS, Kind
from codec.bench.points import Curves, PointStore, Published
from codec.bench.rd import OnLine, RdOptions, choose_contestants, measure_points
from codec.bench.rdreport import RdReport, make_report
from codec.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Round:
    """Inputs of one kind, who takes part, and what is known of these inputs from elsewhere.

    `notes` are sentences about points from elsewhere that do not count.
    """

    inputs: Sequence[Input]
    contestants: Sequence[Contestant]
    published: Sequence[Curves]
    anchor: str
    notes: Sequence[str]

    @property
    def codecs(self) -> list[str]:
        """Names of all codecs that have points or will have them."""
        foreign = [codec for curves in self.published for of in curves.values() for codec in of]
        return list(dict.fromkeys([*(one.name for one in self.contestants), *foreign]))


def prepare(
    inputs: Sequence[Input],
    options: RdOptions,
    published: Sequence[Published],
    *,
    anchor: str | None,
    on_line: OnLine,
) -> list[Round]:
    """A round of the pictures and one of the clips, as far as there are any.

    Args:
        anchor: what to compare with in rounds where it takes part; the others, and None, compare
            with what is usual.

    Raises:
        UsageError: the anchor takes part nowhere; and as `choose_contestants`.
    """
    rounds = []
    for kind in KINDS:
        members = [one for one in inputs if one.kind is kind]
        if members:
            rounds.append(_round(members, kind, options, published, on_line))
            continue
        for name in options.peers or ():
            if name in kind.peers:
                on_line(f"{name} is left out: there are no {kind.name}")
    known = list(dict.fromkeys(codec for one in rounds for codec in one.codecs))
    if anchor is not None and anchor not in known:
        raise UsageError(f"--anchor: no codec {anchor!r}; here: {', '.join(known)}")
    return [replace(one, anchor=anchor) if anchor in one.codecs else one for one in rounds]


def run_round(this: Round, store: PointStore, *, command: str, on_line: OnLine) -> RdReport:
    """Measure what is not in the store, and report on everything."""
    measured = measure_points(this.inputs, this.contestants, store, on_line=on_line)
    return make_report(
        measured.points,
        this.inputs,
        this.contestants,
        this.published,
        anchor=this.anchor,
        command=command,
        notes=[*this.notes, *measured.notes],
    )


def _round(
    inputs: Sequence[Input],
    kind: Kind,
    options: RdOptions,
    published: Sequence[Published],
    on_line: OnLine,
) -> Round:
    notes, counting = [], []
    for source in published:
        refusals = {one.name: source.refusal(one) for one in inputs}
        notes += filter(None, refusals.values())
        names = [name for name, refusal in refusals.items() if refusal is None]
        counting.append({name: source.curves[name] for name in names if name in source.curves})
    for note in notes:
        on_line(note)
    return Round(
        inputs=inputs,
        contestants=choose_contestants(options, kind, on_line),
        published=counting,
        anchor=kind.anchor,
        notes=notes,
    )
