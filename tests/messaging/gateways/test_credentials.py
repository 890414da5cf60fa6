"""Credentials, and gateways that are made by name."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.messaging.credentials import FILE_NAME, credential
from usergrowth_dagster.messaging.gateways.protocol import Callback, Inquiry
from usergrowth_dagster.messaging.gateways.registry import gateway_named, make_gateway
from usergrowth_dagster.settings import Settings

SECRET = "hunter2secret"


def hold(home: Path, text: str, mode: int = 0o600) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    path = home / FILE_NAME
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def test_where_credentials_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against the wrong one of two, and a sentence that does not say what to do."""
    assert credential(tmp_path, "webhook_secret", required=False) is None
    with pytest.raises(SetUpError, match=r"USERGROWTH_WEBHOOK_SECRET.*credentials\.toml.*600"):
        credential(tmp_path, "webhook_secret")
    hold(tmp_path, f'webhook_secret = "{SECRET}"\n')
    assert credential(tmp_path, "webhook_secret") == SECRET
    monkeypatch.setenv("USERGROWTH_WEBHOOK_SECRET", "from the environment\n")
    assert credential(tmp_path, "webhook_secret") == "from the environment"
    assert credential(tmp_path, "webhook_secret", required=False) == "from the environment"


@pytest.mark.parametrize(
    ("text", "mode", "sentence"),
    [
        (f'a = "{SECRET}"', 0o640, "chmod 600"),
        (f'a = "{SECRET}"', 0o604, "chmod 600"),
        (f'a = "{SECRET}', 0o600, "not valid TOML"),
        (f"a = {SECRET}", 0o600, "not valid TOML"),
        ("a = 5", 0o600, "must be a text"),
        ('a = "  "', 0o600, "must be a text"),
        (f'[a]\nb = "{SECRET}"', 0o600, "must be a text"),
    ],
)
def test_bad_files_are_refused_and_not_quoted(
    tmp_path: Path, text: str, mode: int, sentence: str
) -> None:
    """Guards against a secret that all may read, or that an error message shows."""
    hold(tmp_path, text, mode)
    with pytest.raises(SetUpError, match=sentence) as caught:
        credential(tmp_path, "a")
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_unknown_gateways(settings: Settings) -> None:
    """Guards against a misspelled gateway that sends through another, or e-mail through an SMS."""
    for update, channel, sentence in (
        ({"gateway": "alyun"}, "sms", "'gateway': 'alyun'.*file, aliyun, kannel, twilio, webhook"),
        ({"gateway": "smtp"}, "sms", "'gateway': 'smtp'"),
        ({"email_gateway": "twilio"}, "email", "'email_gateway'.*file, smtp, webhook"),
        ({}, "fax", "channel 'fax'"),
    ):
        with pytest.raises(UserError, match=sentence):
            make_gateway(settings.model_copy(update=update), channel)
    with pytest.raises(UserError, match="gateway 'x'"):
        gateway_named(settings, "x")


@pytest.mark.parametrize(
    ("name", "module"), [("aliyun", "alibabacloud_dysmsapi20170525"), ("twilio", "twilio")]
)
def test_missing_sdk_is_named(
    name: str, module: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a traceback where an extra is not installed."""
    for loaded in [key for key in sys.modules if key.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(
        sys.modules, "usergrowth_dagster.messaging.gateways.twilio_http", raising=False
    )
    hold(settings.home, 'twilio_account_sid = "AC"\ntwilio_auth_token = "t"\n')
    gateway = make_gateway(settings.model_copy(update={"gateway": name, "twilio_from": "+1"}))
    with pytest.raises(SetUpError, match=rf"pip install 'usergrowth-dagster\[{name}\]'"):
        gateway.look_up([Inquiry("1", "s", "o", datetime.now(UTC), "+9990000000001", None, "1")])
    if name == "twilio":
        with pytest.raises(SetUpError, match="pip install"):
            gateway.parse_receipts(Callback())


def test_sdks_are_loaded_on_demand() -> None:
    """Guards against a dispatcher that loads every provider's SDK to use none."""
    code = (
        "import sys\n"
        "from usergrowth_dagster.settings import load_settings\n"
        "from usergrowth_dagster.messaging.gateways.registry import make_gateway\n"
        "for name in ('file', 'aliyun', 'twilio'):\n"
        "    make_gateway(load_settings('/nonexistent', gateway=name))\n"
        "heavy = {'twilio', 'alibabacloud_dysmsapi20170525', 'requests', 'httpx', 'pandas', 'duckdb',"
        " 'dagster'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
