"""A really running S3 server: Ceph's radosgw over one monitor and one object daemon in memory."""

import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.source_databases import free_port, need

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph")
KEY, SECRET = "growth-key", "growth-secret-which-no-log-shows"
_START_SECONDS = 90
_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{port}]
ms bind msgr2 = false
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
run dir = {folder}
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
log file = /dev/null
mon cluster log file = /dev/null
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
osd crush chooseleaf type = 0
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
mon osd full ratio = .99
mon osd nearfull ratio = .99
mon data avail crit = 1
mon data avail warn = 1
[client.rgw]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw dns name = store.test
rgw relaxed s3 bucket names = true
"""


@dataclass
class Cluster:
    """A running server; buckets are made by :meth:`bucket`."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"growth-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def client(self) -> Any:
        """Amazon's own client of the server."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def start(self) -> None:
        """Start the three daemons on fresh folders, and make a user."""
        monitor, osd = free_port(), str(uuid.uuid4())
        fsid = str(uuid.uuid4())
        for name in ("mon", "osd", "rgw"):
            (self.folder / name).mkdir()
        settings = {"fsid": fsid, "port": monitor, "folder": self.folder, "gateway": self.port}
        (self.folder / "ceph.conf").write_text(_CONFIGURATION.format(**settings))
        monitors, at = str(self.folder / "monmap"), f"[v1:127.0.0.1:{monitor}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", at, monitors)
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monitors)
        self._serve("ceph-mon", "-i", "a")
        self._run("ceph", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._serve_objects()
        self._serve("radosgw", "-n", "client.rgw")
        self._wait()
        keys = [f"--access-key={KEY}", f"--secret-key={SECRET}"]
        who = ["--uid=growth", "--display-name=growth"]
        self._run("radosgw-admin", "-n", "client.rgw", "user", "create", *who, *keys)

    def stop(self) -> None:
        """End the daemons; what they held is gone."""
        for process in reversed(self.processes):
            process.kill()
            process.wait()

    def _serve_objects(self, attempts: int = 20) -> None:
        """Start the object daemon, which ends when it asks the monitor before it knows its map."""
        for _ in range(attempts):
            self._serve("ceph-osd", "-i", "0")
            try:
                self.processes[-1].wait(timeout=3)
            except subprocess.TimeoutExpired:
                return
            self.processes.pop()

    def _wait(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and all(one.poll() is None for one in self.processes):
            try:
                httpx.get(self.endpoint, timeout=5)
            except httpx.HTTPError:
                time.sleep(0.2)
            else:
                return
        said = [path.read_text() for path in sorted(self.folder.glob("*.out"))]
        raise RuntimeError("\n".join(["radosgw did not start", *said]))

    def _run(self, program: str, *arguments: str) -> None:
        command = [program, "-c", str(self.folder / "ceph.conf"), *arguments]
        if program == "monmaptool":
            command = [program, *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=_START_SECONDS)

    def _serve(self, program: str, *arguments: str) -> None:
        command = [program, "-c", str(self.folder / "ceph.conf"), "-f", *arguments]
        with (self.folder / f"{program}.out").open("ab") as out:
            self.processes.append(subprocess.Popen(command, stdout=out, stderr=out))


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A server of its own, which is gone afterwards; skips where Ceph is not installed."""
    need(*PROGRAMS)
    with ExitStack() as stack:
        yield _started(stack)


def _started(stack: ExitStack, attempts: int = 3) -> Cluster:
    """A cluster; another process may take its ports before it does, then it is another one."""
    # the path of a socket has a limit of 108 bytes
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rgw-", dir="/tmp")))
    cluster = Cluster(folder, free_port())
    stack.callback(cluster.stop)
    try:
        cluster.start()
    except (RuntimeError, subprocess.SubprocessError):
        if attempts == 1:
            raise
        cluster.stop()
        return _started(stack, attempts - 1)
    return cluster


def use_cluster(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Make every client of this process reach a server at an endpoint."""
    import fsspec

    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    # an instance keeps the endpoint that it was made with
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def environment(endpoint: str) -> dict[str, str]:
    """What a process needs in order to reach a server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    } | ({"PATH": os.environ["PATH"]} if "PATH" in os.environ else {})
