"""The chain with its tables, landing files and models in a really running object store."""

import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import chain_world
import duckdb
import fsspec
import pytest
from chain_world import D, World, cli, copy_home, output, succeeded
from support.radosgw import SECRET, Cluster, environment
from support.s3_proxy import Proxy, beyond_oss, proxied

from usergrowth_dagster.audience.output import check_output_folder
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.intake.uploads import Cursor, look_at_uploads
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings

pytestmark = pytest.mark.radosgw
OF_THE_RUN = {"population_version", "feature_version", "model_version"}
"""Columns of what was read: the other home has decided another campaign too."""


@dataclass
class Home:
    """A home whose files are in a bucket, behind a proxy that counts."""

    folder: Path
    bucket: str
    proxy: Proxy
    cluster: Cluster

    def run(self, *arguments: str) -> Any:
        """Run the real command; its requests alone are in the proxy afterwards."""
        self.proxy.requests.clear()
        return cli(self.folder, *arguments, **self.settings)

    @property
    def settings(self) -> dict[str, str]:
        root = f"s3://{self.bucket}/growth"
        return {
            **environment(self.proxy.endpoint),
            "USERGROWTH_STORAGE": f"{root}/tables",
            "USERGROWTH_LANDING": f"{root}/landing",
            "USERGROWTH_MLFLOW_ARTIFACTS": f"{root}/models",
        }

    def project(self, monkeypatch: pytest.MonkeyPatch) -> Project:
        """The home, opened in this process."""
        for name, value in self.settings.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        return Project(load_settings(self.folder))

    def put(self, folder: Path, prefix: str) -> None:
        client = self.cluster.client()

        def send(path: Path) -> None:
            key = f"growth/{prefix}/{path.relative_to(folder)}"
            client.put_object(Bucket=self.bucket, Key=key, Body=path.read_bytes())

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(send, (path for path in folder.rglob("*") if path.is_file())))

    def get(self, prefix: str, folder: Path) -> None:
        client = self.cluster.client()
        pages = client.get_paginator("list_objects_v2")
        listed = pages.paginate(Bucket=self.bucket, Prefix=f"growth/{prefix}/")
        keys = [entry["Key"] for page in listed for entry in page.get("Contents", ())]

        def fetch(key: str) -> None:
            target = folder / key.removeprefix(f"growth/{prefix}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(client.get_object(Bucket=self.bucket, Key=key)["Body"].read())

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(fetch, keys))

    def copy_to(self, folder: Path) -> Path:
        """The tables and landing files as a home on disk."""
        self.get("tables", folder / "storage")
        self.get("landing", folder / "landing")
        return folder


@pytest.fixture(scope="module")
def stored(
    world: World, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    """The world landed on disk, moved into the store, then trained and decided there.

    All its commands work with a store that takes no more than OSS does.
    """
    folder = copy_home(world.landed, tmp_path_factory.mktemp("store") / "home")
    with proxied(cluster) as proxy:
        proxy.fault = beyond_oss
        home = Home(folder, cluster.bucket(), proxy, cluster)
        home.put(folder / "storage", "tables")
        home.put(folder / "landing", "landing")
        for name in ("storage", "landing"):
            shutil.rmtree(folder / name)
        campaign = folder / "care.yaml"
        shutil.copy(world.decided / "campaigns" / campaign.name, campaign)
        succeeded(home.run("apply", "-f", str(campaign)))
        chain_world.approve(folder, "care")
        succeeded(home.run("run", "--date", str(D)))
        yield home


def test_the_same_rows_as_on_disk(stored: Home, world: World, tmp_path: Path) -> None:
    """Guards against a decision that depends on where the files are."""
    copy = stored.copy_to(tmp_path / "copy")
    scopes = dict.fromkeys(("population", "scores", "decisions"), "task_id = 'care'")
    for table, where in {"user_features": f"ds = date '{D}'", **scopes}.items():
        columns = ", ".join(sorted({*chain_world.warehouse(copy).columns(table)} - OF_THE_RUN))
        here, there = (
            chain_world.rows(one, table, where, columns) for one in (copy, world.decided)
        )
        assert here and chain_world.rounded(here) == chain_world.rounded(there), table
    assert output(copy, "care") == output(world.decided, "care")
    sent = [row for row in chain_world.ledger(world.decided) if row[0] == "care"]
    assert sent and chain_world.ledger(stored.folder) == sent
    models = stored.cluster.client().list_objects_v2(Bucket=stored.bucket, Prefix="growth/models/")
    assert any(entry["Key"].endswith("/model/MLmodel") for entry in models["Contents"])
    assert not {"storage", "landing"} & {path.name for path in stored.folder.iterdir()}


def test_an_unchanged_date_reads_no_data(stored: Home) -> None:
    """Guards against a second run that reads the data again, or writes anything."""
    succeeded(stored.run("run", "--date", str(D)))
    assert stored.proxy.count("GET", ".parquet") == 0
    assert stored.proxy.count("PUT") == stored.proxy.count("POST") == 0


def test_no_secret_is_shown(stored: Home) -> None:
    """Guards against a key of the store in a log, a page, or the metadata of an asset."""
    for path in stored.folder.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_an_output_folder_with_other_files(stored: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against output.csv among files of somebody else, as on disk."""
    project = stored.project(monkeypatch)
    folder = "population_output/care"
    check_output_folder(project.landing, folder, "care", state=project.state)
    client, key = stored.cluster.client(), f"growth/landing/{folder}/notes.txt"
    client.put_object(Bucket=stored.bucket, Key=key, Body=b"mine")
    with pytest.raises(UserError, match=r"notes.txt: the output folder of task 'care' must be"):
        check_output_folder(project.landing, folder, "care", state=project.state)
    client.delete_object(Bucket=stored.bucket, Key=key)


def test_a_store_out_of_reach(stored: Home) -> None:
    """Guards against a traceback where the store does not answer, lacks the bucket or refuses."""
    nobody = {**stored.settings, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    stranger = {**stored.settings, "AWS_SECRET_ACCESS_KEY": "of-somebody-else"}
    gone = {**stored.settings, "USERGROWTH_STORAGE": "s3://no-such-bucket/tables"}
    for settings in (stranger, gone):
        done = cli(stored.folder, "doctor", **settings)
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        assert done.returncode != 0
    done = cli(stored.folder, "run", "--date", str(D + timedelta(days=1)), **nobody)
    assert len(chain_world.errors(done)) == 1


def test_an_upload_waits_until_it_is_whole(stored: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a population that is read while its parts still come into the bucket."""
    client = stored.cluster.client()

    def put(name: str, body: bytes) -> None:
        key = f"growth/landing/population/late/{name}"
        client.put_object(Bucket=stored.bucket, Key=key, Body=body)

    project = stored.project(monkeypatch)
    cursor = Cursor()

    def is_taken() -> bool:
        """Whether a look takes the upload in: no campaign wants it, which is noted."""
        nonlocal cursor
        look = look_at_uploads(project, cursor)
        cursor = look.cursor
        return any("late" in note for note in look.notes)

    put("part-1.csv", b"user_id,phone\nu1,+99900000001\n")
    assert not is_taken()
    put("part-2.csv", b"user_id,phone\nu2,+99900000002\n")
    assert not is_taken(), "it has grown since the last look"
    assert is_taken(), "two looks saw the same"
    put("part-3.csv", b"user_id,phone\nu3,+99900000003\n")
    assert not is_taken()
    put("_SUCCESS", b"")
    assert is_taken(), "the sender says that it is whole"
    project.store.close()


def test_a_person_is_forgotten_in_the_store(stored: Home, tmp_path: Path) -> None:
    """Guards against rows of a person that stay in the bucket, or in the copies of this machine."""
    copy, table = tmp_path / "before", "tables/user_features"
    stored.get(f"tables/{table}", copy / "storage" / table)
    days = Counter(user for (user,) in chain_world.rows(copy, "user_features", columns="user_id"))
    user = min(days, key=lambda one: days[one])
    succeeded(stored.run("forget", user))
    stored.get("tables", tmp_path / "after")
    for folder in (tmp_path / "after", stored.folder / "cache"):
        for path in folder.rglob("*.parquet"):
            assert user not in repr(duckdb.sql(f"from read_parquet('{path}')").fetchall()), path
