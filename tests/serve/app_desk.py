"""A home whose providers are set up, and its receiver as an application."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from usergrowth_dagster.control.store import ControlStore, open_store
from usergrowth_dagster.serve.app import make_app
from usergrowth_dagster.settings import Settings, load_settings

ROOT = "https://growth.example"


@pytest.fixture
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home whose providers know it as ROOT."""
    settings.home.mkdir()
    for name, value in {
        "SECRET_KEY": "0123456789abcdef",
        "CALLBACK_TOKEN": "unguessable",
        "ALIYUN_ACCESS_KEY_ID": "id",
        "ALIYUN_ACCESS_KEY_SECRET": "secret",
        "TWILIO_ACCOUNT_SID": "AC1",
        "TWILIO_AUTH_TOKEN": "twilio-secret",
        "KANNEL_USER": "u",
        "KANNEL_PASSWORD": "p",
        "WEBHOOK_SECRET": "0123456789abcdef",
    }.items():
        monkeypatch.setenv(f"USERGROWTH_{name}", value)
    return load_settings(
        settings.home,
        callback_url=ROOT,
        smtp_from="shop@growth.example",
        gateway="aliyun",
        twilio_from="+12125550100",
    )


@pytest.fixture
def store(home: Settings) -> Iterator[ControlStore]:
    """The store of the home."""
    opened = open_store(home)
    yield opened
    opened.close()


@pytest.fixture
def client(home: Settings, store: ControlStore) -> Iterator[TestClient]:
    """The running application."""
    with TestClient(make_app(home), raise_server_exceptions=False) as running:
        yield running
