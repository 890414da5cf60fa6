"""One server for all tests of a process, and a bucket of its own for each."""

from collections.abc import Iterator

import pytest
from chain_world import world
from database_fixtures import database_url, postgres_server
from support.radosgw import Cluster, running_cluster

__all__ = ["database_url", "postgres_server", "world"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running
