"""Encodes that are interrupted at a step, as by a user."""

from __future__ import annotations

from collections.abc import Callable

from codec.options import Progress


class Stop(KeyboardInterrupt):
    """The user has had enough."""


def stop_at(stage: str, step: int) -> Callable[[Progress], None]:
    """For `on_progress`: raises Stop at this step of a stage."""

    def on_progress(progress: Progress) -> None:
        if progress.stage == stage and progress.step == step:
            raise Stop

    return on_progress
