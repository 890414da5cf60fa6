"""Tables in a really running object store: writers at once, and a bad network between."""

import re
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fsspec.config import conf as fsspec_config
from support.processes import ready_process
from support.radosgw import Cluster, use_cluster
from support.s3_proxy import Fault, Proxy, Request, proxied

from usergrowth_dagster.data.object_store import open_storage, open_tables, probe
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

pytestmark = pytest.mark.radosgw
DAY = date(2024, 5, 4)
COMMIT = re.compile(r"/_delta_log/\d{20}\.json$")


@pytest.fixture
def proxy(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with proxied(cluster) as between:
        use_cluster(monkeypatch, between.endpoint)
        yield between


@pytest.fixture
def project(cluster: Cluster, proxy: Proxy, tmp_path: Path) -> Project:
    return opened(tmp_path / "home", cluster.bucket())


def opened(home: Path, bucket: str) -> Project:
    root = f"s3://{bucket}/growth"
    return Project(load_settings(home, storage=f"{root}/tables", landing=f"{root}/landing"))


def rows(day: date, *values: int) -> pa.Table:
    return pa.table({"ds": pa.array([day] * len(values), pa.date32()), "value": list(values)})


def write(project: Project, day: date, *values: int) -> int:
    made = {day: f"of {values}"}
    return project.warehouse.replace(
        "numbers", rows(day, *values), days=[day], fingerprints=made
    ).version


def values(project: Project, columns: str = "ds, value") -> list[tuple[Any, ...]]:
    files = [f for some in project.warehouse.files("numbers").values() for f in some]
    with open_engine(project.settings) as engine:
        engine.bind_files("numbers", files, {"ds": "DATE", "value": "BIGINT"})
        return engine.rows(f"select {columns} from numbers order by all")


def is_commit(request: Request) -> bool:
    return request.method == "PUT" and bool(COMMIT.search(request.path))


def once(fault: Fault, wanted: Any = is_commit) -> Any:
    """A fault of the first request that is wanted."""
    done = []

    def of(request: Request) -> Fault | None:
        if done or not wanted(request):
            return None
        done.append(request)
        return fault

    return of


@pytest.mark.parametrize("fault", ["500", "reset", "lost answer", "slow"])
@pytest.mark.parametrize("at", ["commit", "data", "any read"])
def test_a_bad_network(project: Project, proxy: Proxy, fault: Fault, at: str) -> None:
    """Guards against half a day, a lost one, or one that stands twice after a failed request."""
    write(project, DAY, 1, 2)
    wanted = {
        "commit": is_commit,
        "data": lambda request: request.method == "PUT" and request.path.endswith(".parquet"),
        "any read": lambda request: request.method == "GET",
    }[at]
    proxy.fault = once(fault, wanted)
    write(project, DAY, 3)
    write(project, DAY + timedelta(days=1), 4)
    assert values(project) == [(DAY, 3), (DAY + timedelta(days=1), 4)]
    fresh = opened(
        project.settings.home.with_name("other"), project.settings.storage_root[5:].split("/")[0]
    )
    assert values(fresh) == values(project)
    assert fresh.warehouse.fingerprint("numbers", DAY) == "of (3,)"
    table = fresh.warehouse.open("numbers")
    assert sorted(table.file_uris()) == sorted(
        file for files in fresh.warehouse.files("numbers").values() for file in files
    )
    proxy.fault = lambda _request: None
    for version in range(1, table.version() + 1):
        text = (fresh.warehouse.log("numbers").text(version) or b"").decode()
        added = set(re.findall(r'"add":\{"path":"([^"]+)"', text))
        removed = set(re.findall(r'"remove":\{"path":"([^"]+)"', text))
        assert not added & removed, "one commit adds and removes a file"


def _write_days(home: Path, bucket: str, number: int, days: int) -> None:
    project = opened(home / str(number % 2), bucket)
    for n in range(days):
        write(project, DAY + timedelta(days=number), n, number)


def test_writers_at_once(cluster: Cluster, proxy: Proxy, tmp_path: Path) -> None:
    """Guards against a commit that another one overwrites."""
    write_at_once(cluster.bucket(), tmp_path, "kept")


def test_writers_at_once_under_the_lock(
    cluster: Cluster,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    database_url: str,
) -> None:
    """Guards against a commit that another one overwrites, where a store lets it do so."""
    monkeypatch.setenv("USERGROWTH_DATABASE_URL", database_url)
    proxy.fault = lambda request: "overwrites" if request.is_conditional else None
    write_at_once(cluster.bucket(), tmp_path, "ignored")


def write_at_once(bucket: str, homes: Path, condition: str) -> None:
    """Make 24 commits of one table in four processes and two homes; each one stands."""
    project = opened(homes / "0", bucket)
    assert project.state.condition == condition
    project.store.close()
    writers = [ready_process(_write_days, homes, bucket, number, 6) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(240)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert values(project) == [
        (DAY + timedelta(days=number), value)
        for number in range(4)
        for value in sorted((5, number))
    ]
    assert project.warehouse.version("numbers") == 24


def test_the_probe(cluster: Cluster, proxy: Proxy, tmp_path: Path) -> None:
    """Guards against a store without the guarantee that is taken for one with it."""
    settings = load_settings(tmp_path / "home")
    storage = open_storage(settings, f"s3://{cluster.bucket()}/tables")
    assert probe(storage) == "kept"
    proxy.fault = lambda request: "501" if request.is_conditional else None
    assert probe(storage) == "refused"
    proxy.fault = lambda request: "overwrites" if request.is_conditional else None
    assert probe(storage) == "ignored"
    proxy.fault = lambda _request: None
    assert storage.files(deep=True) == []
    proxy.fault = lambda request: "501" if "_probe" in request.path else None
    unknown = settings.model_copy(update={"storage": storage.root})
    assert open_tables(unknown).condition == "ignored", "it may recover, and lack the condition"
    proxy.fault = lambda _request: None
    with pytest.raises(OSError):
        probe(open_storage(settings, "s3://no-such-bucket/tables"))


def _write_one(home: Path, bucket: str) -> None:
    write(opened(home, bucket), DAY, 9, 9)


def test_a_writer_killed_before_its_commit(cluster: Cluster, proxy: Proxy, tmp_path: Path) -> None:
    """Guards against a day of which a part is there, or which nobody can write any more."""
    bucket = cluster.bucket()
    project = opened(tmp_path / "home", bucket)
    write(project, DAY, 1)
    proxy.slow_seconds = 60
    proxy.fault = once("hang")
    commits = proxy.count("PUT", "_delta_log")
    process = ready_process(_write_one, tmp_path / "home", bucket)
    process.start()
    while proxy.count("PUT", "_delta_log") == commits:
        time.sleep(0.05)
    process.kill()
    process.join()
    assert values(project) == [(DAY, 1)]
    write(project, DAY, 2)
    assert values(project) == [(DAY, 2)]
    stored = [file.path for file in project.state.files("tables/numbers", deep=True)]
    assert sum(path.endswith(".parquet") for path in stored) == 3, "what it wrote is there"


def test_requests_do_not_grow_with_history(project: Project, proxy: Proxy) -> None:
    """Guards against a day that costs more requests the more days there are."""
    counts = []
    for number in range(43):
        proxy.requests.clear()
        write(project, DAY + timedelta(days=number), number)
        counts.append(len(proxy.requests))
    cycles = [sum(counts[first : first + 10]) for first in (12, 32)]  # of a checkpoint each
    assert cycles[1] <= cycles[0] + 2 < 1_000


@pytest.mark.parametrize("addressing", ["virtual", "path"])
def test_the_bucket_in_the_hosts_name(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, addressing: str
) -> None:
    """Guards against a store such as OSS that takes requests with the bucket in the host alone."""
    bucket = cluster.bucket()
    with proxied(cluster) as proxy:
        use_cluster(monkeypatch, proxy.endpoint)
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        monkeypatch.setenv("HTTP_PROXY", proxy.endpoint)
        monkeypatch.setenv("http_proxy", proxy.endpoint)
        monkeypatch.setitem(fsspec_config, "s3", {})  # it is put back
        settings = load_settings(
            tmp_path / "home",
            storage=f"s3://{bucket}/tables",
            s3_endpoint="http://store.test",
            s3_addressing=addressing,
        )
        project = Project(settings)
        write(project, DAY, 1)
        assert values(project) == [(DAY, 1)]
        hosts = {request.host for request in proxy.requests}
        assert hosts == {f"{bucket}.store.test" if addressing == "virtual" else "store.test"}
