"""The machine that measures: processor, cores, vector extensions, versions of what it runs."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("modcodec", "torch", "numpy", "numba", "llvmlite", "av")
# Names of LLVM for the extensions that matter to kernels.
EXTENSIONS = ("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512vnni", "avxvnni", "neon")
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """Where figures come from; `usable_cores` are those that this process may run on."""

    cpu: str
    cores: int
    usable_cores: int
    extensions: tuple[str, ...]
    system: str
    python: str
    versions: dict[str, str]


def describe_machine() -> Machine:
    """This machine."""
    return Machine(
        cpu=_cpu_name(),
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        extensions=extensions(),
        system=platform.platform(),
        python=platform.python_version(),
        versions={package: package_version(package) for package in PACKAGES},
    )


def _cpu_name() -> str:
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def extensions() -> tuple[str, ...]:
    """Those of EXTENSIONS that the processor has."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return tuple(name for name in EXTENSIONS if features.get(name))


def package_version(package: str) -> str:
    """The version of a distribution, or `not installed`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
