"""What the machine, or the container in it, lets this process use."""

import os
import re
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_GROUP_FILE = Path("/proc/self/cgroup")
_SHARE = 0.4  # of the memory: a second process of the product may be at work, and others too
_LEAST = 1 << 30
_SIZE = re.compile(r"\s*([0-9.]+)\s*([KMGT])(i?)B\s*", re.IGNORECASE)


def processors(cgroups: Path = _CGROUPS, group_file: Path = _GROUP_FILE) -> int:
    """Processors that this process may use, at least 1.

    Args:
        cgroups: where the limits of containers lie.
        group_file: file that names this process's place below them.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quotas = []
    for text in _limits(cgroups, group_file, "cpu.max"):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(max(1, round(int(quota) / int(period))))
    return min([usable or 1, *quotas])


def memory_limit(cgroups: Path = _CGROUPS, group_file: Path = _GROUP_FILE) -> str:
    """The default memory of one DuckDB connection: two fifths of what there is, at least 1 GiB."""
    return f"{max(_LEAST, int(memory(cgroups, group_file) * _SHARE)) >> 20}MiB"


def size_in_bytes(size: str) -> int | None:
    """Bytes of a memory size as DuckDB writes it, such as 4GB or 512MiB; None in another form."""
    match = _SIZE.fullmatch(size)
    if match is None:
        return None
    power = "KMGT".index(match[2].upper()) + 1
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def memory(cgroups: Path = _CGROUPS, group_file: Path = _GROUP_FILE) -> int:
    """Bytes of memory that this process may use."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    names = ("memory.max", "memory.limit_in_bytes")
    limits = [text for name in names for text in _limits(cgroups, group_file, name)]
    return min([whole, *(int(text) for text in limits if text.isdigit())])


def _limits(cgroups: Path, group_file: Path, name: str) -> list[str]:
    """What the files of a limit say, of this process's own group and of all above it."""
    limits = []
    for folder in _folders(cgroups, group_file):
        try:
            limits.append((folder / name).read_text("ascii").strip())
        except OSError:  # no such limit, or no such group in this container
            continue
    return limits


def _folders(cgroups: Path, group_file: Path) -> list[Path]:
    """Folders of the process's groups, in version 2 and, for memory, in version 1."""
    roots = {"": cgroups, "memory": cgroups / "memory"}
    folders = list(roots.values())
    try:
        lines = group_file.read_text("utf-8").splitlines()
    except OSError:
        return folders
    for line in lines:
        _, kind, path = (*line.split(":", 2), "", "")[:3]
        if kind in roots:
            place = Path(path.strip("/"))
            folders += [roots[kind] / part for part in (place, *place.parents)]
    return folders
