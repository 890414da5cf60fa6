"""Sources in an object store, over S3's protocol: they keep up, and say what is wrong with it."""

import gzip
import io
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.s3_server import running_s3

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.sources import land as land_module
from usergrowth_dagster.sources.definition import parse_sources
from usergrowth_dagster.sources.land import SourceLanding, land_source
from usergrowth_dagster.sources.suggest import suggest_source

DAY = date(2024, 3, 1)
CLICKS = """
sources:
  - name: clicks
    fills: behavior
    from: {files}
    day: {{time: at}}
    columns: {{user_id: who, behavior: what}}
"""


class Bucket:
    """A bucket ``lake`` on a really running server, and a home that lands from it."""

    def __init__(self, home: Path, endpoint: str) -> None:
        self.endpoint = endpoint
        self.system = fsspec.filesystem("s3", use_listings_cache=False)
        self.settings = load_settings(
            home, today=date(2024, 3, 20), timezone="UTC", memory_limit="1GB"
        )

    def put(self, name: str, users: list[str], day: date = DAY) -> None:
        """Put a file with a click of each user on a day, in the format of its ending."""
        at = [f"{day} 08:00:00"] * len(users)
        columns = {"who": users, "what": ["open"] * len(users), "at": at}
        if name.endswith(".parquet"):
            file = io.BytesIO()
            pq.write_table(pa.table(columns), file)
            content = file.getvalue()
        else:
            rows = zip(*columns.values(), strict=True)
            lines = [",".join(columns), *(",".join(row) for row in rows)]
            content = gzip.compress(("\n".join(lines) + "\n").encode())
        self.system.pipe_file(f"lake/{name}", content)

    def land(self, files: str) -> SourceLanding:
        (source,) = parse_sources(CLICKS.format(files=files), "sources.yml")
        landing, state = Storage(self.settings.landing_root), Storage(self.settings.storage_root)
        return land_source(self.settings, landing, state, source, self.settings.home)

    def users(self, day: date = DAY) -> list[str]:
        """The users of a landed day."""
        path = Path(self.settings.landing_root) / "behavior" / f"ds={day:%Y%m%d}"
        table = pq.read_table(path / "source-clicks.parquet", partitioning=None)
        return sorted(table.column("user_id").to_pylist())

    def files(self) -> dict[str, bytes]:
        """Everything that has landed."""
        root = Path(self.settings.landing_root)
        return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with running_s3(monkeypatch, "lake") as endpoint:
        yield Bucket(tmp_path / "home", endpoint)


@pytest.mark.parametrize("ending", ["csv.gz", "parquet"])
def test_files_that_are_new_and_files_that_change(bucket: Bucket, ending: str) -> None:
    """Guards against a listing that is remembered, a changed file that counts twice, and globs."""
    bucket.put(f"logs/a.{ending}", ["007", "ann"])
    bucket.put(f"logs/_draft.{ending}", ["draft"])
    bucket.put(f"other/z.{ending}", ["other"])
    pattern = f"s3://lake/logs/*.{ending}"
    first = bucket.land(pattern)
    assert (first.files, first.landed, bucket.users()) == (1, (DAY,), ["007", "ann"])
    assert bucket.land(pattern).landed == ()
    bucket.put(f"logs/b.{ending}", ["bob"])
    bucket.put(f"logs/c.{ending}", ["cyd"], DAY + timedelta(1))
    grown = bucket.land(pattern)
    assert (grown.files, grown.landed) == (3, (DAY, DAY + timedelta(1)))
    assert (bucket.users(), bucket.users(DAY + timedelta(1))) == (["007", "ann", "bob"], ["cyd"])
    bucket.put(f"logs/a.{ending}", ["ann", "eve"])
    changed = bucket.land(pattern)
    assert (changed.landed, changed.unchanged) == ((DAY,), 1)
    assert bucket.users() == ["ann", "bob", "eve"]
    bucket.system.rm(f"lake/logs/b.{ending}")
    gone = bucket.land(pattern)
    assert gone.gone == (f"s3://lake/logs/b.{ending}",) and gone.landed == ()
    assert bucket.users() == ["ann", "bob", "eve"]


def test_folders_of_days(bucket: Bucket) -> None:
    """Guards against a glob that stops at a folder, or names that a URL would escape."""
    for place in range(3):
        day = DAY + timedelta(place)
        bucket.put(f"logs/ds={day}/part 1+2 #é.csv.gz", [f"u{place}"], day)
    landed = bucket.land("s3://lake/logs/**/*.csv.gz")
    assert (landed.files, len(landed.landed)) == (3, 3)
    assert [bucket.users(DAY + timedelta(place)) for place in range(3)] == [["u0"], ["u1"], ["u2"]]


def test_a_log_in_a_bucket_is_proposed(bucket: Bucket) -> None:
    """Guards against a proposal for local files alone."""
    bucket.put("logs/a.csv.gz", ["007", "ann", "007"])
    suggestion = suggest_source(bucket.settings, "s3://lake/logs/*.csv.gz", Path("/nowhere"))
    (source,) = parse_sources(suggestion.text, "x")
    assert source.patterns == ("s3://lake/logs/*.csv.gz",)
    assert source.columns["user_id"] == "who" and suggestion.counts["rows"] == 3


def no_longer_there(bucket: Bucket) -> None:
    bucket.system.rm("lake", recursive=True)


def wrong_credentials(bucket: Bucket) -> None:
    """From the next call on the server checks who asks, and knows nobody."""
    httpx.post(f"{bucket.endpoint}/moto-api/reset-auth", content="0")


def cut_short(bucket: Bucket) -> None:
    """A file whose second half is missing, and whose first one holds whole rows."""
    content = gzip.compress(("who,what,at\n" + "ann,open,2024-03-01 08:00:00\n" * 50_000).encode())
    bucket.system.pipe_file("lake/logs/b.csv.gz", content[: len(content) // 2])


@pytest.mark.parametrize(
    ("happens", "words", "code"),
    [
        (no_longer_there, "no file matches 's3://lake/logs/*.csv.gz'", "source.gone"),
        (wrong_credentials, "cannot be listed: ", "source.gone"),
        (cut_short, "source clicks: ", "source.unreadable"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    bucket: Bucket, request: pytest.FixtureRequest, happens: Any, words: str, code: str
) -> None:
    """Guards against a traceback of the client, a key in an error, and a day that is half there."""
    bucket.put("logs/a.csv.gz", ["ann"])
    bucket.put("logs/c.csv.gz", ["cyd"], DAY + timedelta(1))
    bucket.land("s3://lake/logs/*.csv.gz")
    before = bucket.files()
    bucket.put("logs/c.csv.gz", ["cyd", "new"], DAY + timedelta(1))
    happens(bucket)
    try:
        with pytest.raises(UserError) as error:
            bucket.land("s3://lake/logs/*.csv.gz")
    finally:
        httpx.post(f"{bucket.endpoint}/moto-api/reset-auth", content="inf")
    sentence = str(error.value)
    assert words in sentence and "\n" not in sentence and error.value.code == code
    assert "test-secret" not in sentence
    assert bucket.files() == before


def test_a_server_that_goes_while_a_file_is_read(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a traceback of the client from within DuckDB, and a day that is half there."""
    bucket.put("logs/a.csv.gz", ["ann"])
    bucket.land("s3://lake/logs/*.csv.gz")
    before = bucket.files()
    bucket.put("logs/a.csv.gz", ["ann", "bob"])
    listed = land_module.matching_files

    def then_gone(*arguments: Any) -> Any:
        files = listed(*arguments)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        return files

    monkeypatch.setattr(land_module, "matching_files", then_gone)
    with pytest.raises(UserError, match=r"^source clicks: ") as error:
        bucket.land("s3://lake/logs/*.csv.gz")
    assert "\n" not in str(error.value) and bucket.files() == before


def test_a_server_that_is_gone(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against minutes of silence, and a traceback at their end."""
    bucket.put("logs/a.csv.gz", ["ann"])
    bucket.land("s3://lake/logs/*.csv.gz")
    before = bucket.files()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(UserError, match="cannot be listed: ") as error:
        bucket.land("s3://lake/logs/*.csv.gz")
    assert "\n" not in str(error.value) and bucket.files() == before
