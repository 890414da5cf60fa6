"""Local copies of files of an object store: which are made, which are kept, which go."""

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from usergrowth_dagster.data.file_cache import KEEP_SECONDS, FileCache

NAMES = ("one", "two", "three")


@pytest.fixture
def uris() -> Iterator[list[str]]:
    """Three files of three bytes each."""
    system = fsspec.filesystem("memory")
    for name in NAMES:
        system.pipe_file(f"/cached/{name}", name[:3].encode())
    yield [f"memory://cached/{name}" for name in NAMES]
    system.rm("/cached", recursive=True)


def copies(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_single_look_leaves_no_copies(tmp_path: Path, uris: list[str]) -> None:
    """Guards against a look through a whole store that fills the disk, or takes others' copies."""
    cache, aside = FileCache(tmp_path / "cache", 1_000), tmp_path / "aside"
    local = tmp_path / "local"
    local.write_bytes(b"loc")
    cache.local(uris[:1])
    with pytest.raises(KeyError), cache.lent([*uris, str(local)], aside) as paths:
        assert [Path(path).read_bytes() for path in paths] == [b"one", b"two", b"thr", b"loc"]
        assert (copies(tmp_path / "cache"), copies(aside)) == ({"one"}, {"two", "three"})
        raise KeyError
    assert copies(tmp_path) == {"one", "local"}


def test_the_oldest_copies_go_first(tmp_path: Path, uris: list[str]) -> None:
    """Guards against a disk that fills up, and against a copy that goes while a query reads it."""
    cache = FileCache(tmp_path, 4)
    now = 1_700_000_000.0
    for path, age in zip(cache.local(uris), (3, 2, 1), strict=True):
        os.utime(path, (now - age * 100, now - age * 100))
    assert cache.trim(now + KEEP_SECONDS - 350) == 0, "each was used within a day"
    assert cache.trim(now + KEEP_SECONDS - 150) == 6
    assert copies(tmp_path) == {"three"}
    assert cache.trim(now + 2 * KEEP_SECONDS) == 0, "there is room for it"
