"""The defaults of memory and threads follow the container, not the host."""

from pathlib import Path

import pytest

from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.settings.machine import memory_limit, processors

GIB = 1 << 30


def container(root: Path, files: dict[str, str], groups: str) -> tuple[Path, Path]:
    """A tree of limits, and the file that names the process's groups."""
    for name, text in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    group_file = root / "self"
    group_file.write_text(groups)
    return root / "cgroup", group_file


@pytest.mark.parametrize(
    ("files", "groups", "wanted"),
    [
        ({"memory.max": f"{5 * GIB}\n"}, "0::/\n", "2048MiB"),
        ({"memory.max": "max\n", "a/memory.max": f"{10 * GIB}"}, "0::/a/b\n", "4096MiB"),
        ({"a/b/memory.max": f"{5 * GIB}", "a/memory.max": "max"}, "0::/a/b\n", "2048MiB"),
        ({"memory/x/memory.limit_in_bytes": f"{5 * GIB}"}, "4:memory:/x\n0::/\n", "2048MiB"),
        ({"memory.max": f"{GIB // 2}"}, "0::/\n", "1024MiB"),
    ],
)
def test_memory_is_a_part_of_the_container(
    tmp_path: Path, files: dict[str, str], groups: str, wanted: str
) -> None:
    """A process that a container kills, since it took the memory of its host for its own."""
    assert memory_limit(*container(tmp_path, files, groups)) == wanted


@pytest.mark.parametrize(
    ("text", "most"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("", None)]
)
def test_threads_are_those_of_the_container(tmp_path: Path, text: str, most: int | None) -> None:
    """Sixty threads on one processor's time, or none at all."""
    threads = processors(*container(tmp_path, {"cpu.max": text}, "0::/\n"))
    assert threads == most if most else threads >= 1


def test_no_limits_at_all(tmp_path: Path) -> None:
    """A machine without such files."""
    assert processors(tmp_path / "none", tmp_path / "neither") >= 1
    assert memory_limit(tmp_path / "none", tmp_path / "neither").endswith("MiB")


def test_a_setting_wins(tmp_path: Path) -> None:
    """A machine's default that hides what the home says."""
    settings = load_settings(tmp_path, memory_limit="2GB", threads=3)
    assert (settings.memory_limit, settings.threads) == ("2GB", 3)
    assert load_settings(tmp_path).threads == processors()
