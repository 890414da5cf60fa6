"""The file tree that everything reads and writes through."""

from pathlib import Path
from typing import IO

import pytest

from usergrowth_dagster.data.storage import Storage


@pytest.fixture(params=["directory", "uri"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A directory, and the same through the code path of object stores."""
    root = tmp_path / "root"
    return Storage(str(root) if request.param == "directory" else f"file://{root}")


def test_files_are_listed_by_path_without_hidden_ones(storage: Storage) -> None:
    """A listing that changes order, or shows half-written files, changes what lands."""
    assert storage.files("a") == [] and storage.folders() == [] and storage.files() == []
    for path in ("a/2.csv", "a/1.csv", "a/.part.tmp", "a/deep/3.csv", "b/x.csv"):
        Path(storage.root.removeprefix("file://"), path).parent.mkdir(parents=True, exist_ok=True)
        Path(storage.root.removeprefix("file://"), path).write_text("x")
    assert [file.path for file in storage.files("a")] == ["a/1.csv", "a/2.csv"]
    assert [file.path for file in storage.files("a", deep=True)] == [
        "a/1.csv",
        "a/2.csv",
        "a/deep/3.csv",
    ]
    assert storage.folders() == ["a", "b"] and storage.folders("a") == ["deep"]
    assert [file.name for file in storage.files("b")] == ["x.csv"] and storage.files("b")[
        0
    ].size == 1


def test_a_rewritten_file_changes_the_fingerprint(storage: Storage) -> None:
    """A day that is mended within its old size must be seen as changed."""
    Path(storage.root.removeprefix("file://")).mkdir()
    target = Path(storage.root.removeprefix("file://"), "x.csv")
    target.write_text("one")
    before = storage.fingerprint(storage.files())
    assert before == storage.fingerprint(storage.files())
    import os

    target.write_text("two")
    os.utime(target, (1, 1))
    changed = storage.fingerprint(storage.files())
    target.with_name("y.csv").write_text("")
    added = storage.fingerprint(storage.files())
    assert len({before, changed, added}) == 3


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A crash half-way through output.csv must not leave half a list to be sent."""
    storage = Storage(str(tmp_path / "root"))
    storage.write_bytes("out/output.csv", b"old")

    def dying(handle: IO[bytes]) -> None:
        handle.write(b"half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        storage.write_atomic("out/output.csv", dying)
    assert storage.read_bytes("out/output.csv") == b"old"
    assert [path.name for path in (tmp_path / "root" / "out").iterdir()] == ["output.csv"]
    storage.remove("out")
    storage.remove("out")
    assert not storage.exists("out")
    with (
        storage.open("new/file", "rb")
        if storage.exists("new/file")
        else pytest.raises(FileNotFoundError)
    ):
        storage.read_bytes("new/file")


def test_a_reader_keeps_the_old_file_when_a_new_one_takes_its_place(tmp_path: Path) -> None:
    """A new output.csv that is copied over the old one ends the list of whoever reads that one."""
    storage = Storage(str(tmp_path / "root"))
    old = b"+9990000000001\n" * 20_000  # more than a reader takes at once
    storage.write_bytes("out/output.csv", old)
    with storage.open("out/output.csv") as reader:
        begun = reader.read(15)
        storage.write_bytes("out/output.csv", b"new")
        assert begun + reader.read() == old
    assert storage.read_bytes("out/output.csv") == b"new"
