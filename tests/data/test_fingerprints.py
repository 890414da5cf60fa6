"""Files that were copied, checked out or restored are those of before; rewritten ones are not."""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from usergrowth_dagster.data.fingerprints import Fingerprint
from usergrowth_dagster.data.population import population_uploads
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.intake.uploads import Cursor, due_uploads

NAMES = st.sampled_from(["a.csv", "b.csv", "deep/c.csv"])
TREES = st.dictionaries(NAMES, st.sampled_from(["one", "two", "three"]), min_size=1)


def write(root: Path, tree: dict[str, str], time: int) -> None:
    """Write files whose times are all the given second."""
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        os.utime(path, (time, time))


def fingerprint(root: Path, memory: Path | None = None) -> Fingerprint:
    storage = Storage(str(root), memory=memory)
    return Fingerprint(storage, tuple(storage.files(deep=True)))


@given(TREES, TREES)
def test_files_match_when_names_and_content_do(
    before: dict[str, str], after: dict[str, str]
) -> None:
    """A copied home lands every day again, or a day that was mended within its size is not seen."""
    with tempfile.TemporaryDirectory() as folder:
        one, other, memory = (Path(folder) / name for name in ("one", "other", "memory"))
        write(one, before, 1_000)
        write(other, after, 2_000)
        kept = str(fingerprint(one))
        for _ in range(2):  # from the content, then from memory
            assert fingerprint(other, memory).matches(kept) == (before == after)
        assert fingerprint(one).matches(kept)


def test_content_is_read_once_and_only_where_times_differ(tmp_path: Path) -> None:
    """A run that reads every landing file again takes hours on a year of days."""
    write(tmp_path / "one", {"a.csv": "x" * 10}, 1_000)
    kept = str(fingerprint(tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    write(tmp_path / "other", {"a.csv": "x" * 10}, 2_000)
    assert fingerprint(tmp_path / "other", tmp_path / "memory").matches(kept)
    for place in ("one", "other"):
        modified = (tmp_path / place / "a.csv").stat().st_mtime_ns
        (tmp_path / place / "a.csv").write_text("y" * 10)  # what is read again would differ
        os.utime(tmp_path / place / "a.csv", ns=(modified, modified))
        assert fingerprint(tmp_path / place, tmp_path / "memory").matches(kept)


def test_what_earlier_versions_kept_still_counts(tmp_path: Path) -> None:
    """Landing everything again after an upgrade, since only names, sizes and times were kept."""
    write(tmp_path, {"a.csv": "x"}, 1_000)
    first = fingerprint(tmp_path)
    assert first.matches(first.tags)
    write(tmp_path, {"a.csv": "x"}, 2_000)
    assert not fingerprint(tmp_path).matches(first.tags), "nothing is known of the content"
    assert not first.matches("") and not first.matches(None)


def test_a_file_that_cannot_be_read_is_another_one(tmp_path: Path) -> None:
    """A file that goes away while it is looked at ends the landing with a traceback."""
    write(tmp_path, {"a.csv": "x", "b.csv": "x"}, 1_000)
    kept = str(fingerprint(tmp_path))
    write(tmp_path, {"b.csv": "x"}, 2_000)
    first = fingerprint(tmp_path)
    (tmp_path / "b.csv").unlink()
    assert not first.matches(kept)


def test_the_sensor_leaves_copied_uploads(tmp_path: Path) -> None:
    """A copied home asks to decide every upload of its history again."""
    folder = tmp_path / "population" / "spring"
    write(folder, {"a.csv": "user_id,item_id,phone\n", "_SUCCESS": ""}, 1_000)
    storage = Storage(str(tmp_path))
    seen = population_uploads(storage)
    new = Cursor({"spring": str(seen["spring"].known_by)})
    old = Cursor({"spring": seen["spring"].fingerprint})
    assert due_uploads(seen, new) == due_uploads(seen, old) == {}
    write(folder, {"a.csv": "user_id,item_id,phone\n"}, 2_000)
    assert due_uploads(population_uploads(storage), new) == {}
    write(folder, {"a.csv": "user_id,item_id,phone\nu"}, 2_000)
    assert list(due_uploads(population_uploads(storage), new)) == ["spring"]
