"""Peak memory of processes that train or decode."""

from __future__ import annotations

from dataclasses import dataclass

from codec.bench.cases import Case, Subject
from codec.bench.processes import peak_memory_bytes


@dataclass(frozen=True)
class Memory:
    """The most memory that one process had resident, interpreter and libraries included."""

    subject: Subject
    work: str
    peak_bytes: int

    @property
    def quantity(self) -> str:
        """What its growth with the number of pixels is named."""
        return f"memory, {self.work}"


def training_peak(case: Case, backend_name: str, threads: int) -> int:
    """Bytes of a process that trains some uncut steps; to be run in a process of its own."""
    from codec.bench.tasks import prepare_process, whole_task
    from codec.training.backend import FUSED, PLAIN
    from codec.training.trainer import Trainer

    (backend,) = (b for b in (PLAIN, FUSED) if b.name == backend_name)
    prepare_process(threads)
    backend.use_threads(threads)
    Trainer(whole_task(case), lambda step, total, cost: None, backend=backend).measure_step()
    return peak_memory_bytes()


def decoding_peak(data: bytes, threads: int) -> int:
    """Bytes of a process that decodes a file; to be run in a process of its own."""
    from codec.bench.decoding import decode_whole

    decode_whole(data, threads=threads)
    return peak_memory_bytes()
