"""A really running S3 server on a port of its own, which fsspec reaches by the environment."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest


@contextmanager
def running_s3(monkeypatch: pytest.MonkeyPatch, *buckets: str) -> Iterator[str]:
    """The endpoint of a server with empty buckets."""
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        httpx.post(f"{endpoint}/moto-api/reset")  # servers of one process share their buckets
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        system = fsspec.get_filesystem_class("s3")
        system.clear_instance_cache()  # an instance keeps the endpoint that it was made with
        for bucket in buckets:
            fsspec.filesystem("s3").mkdir(bucket)
        yield endpoint
        system.clear_instance_cache()
    finally:
        server.stop()
