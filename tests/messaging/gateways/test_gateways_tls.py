"""The provider's certificate, for every gateway that speaks HTTPS."""

from pathlib import Path

import pytest
from aliyun_server import KEY_ID, Aliyun
from aliyun_server import SECRET as ALIYUN_SECRET
from conformance import make_batch
from http_provider import Provider, serving
from smtp_server import certificate
from test_aliyun_gateway import AliyunCase
from test_twilio_gateway import TwilioCase
from test_webhook_gateway import WebhookCase
from twilio_server import ACCOUNT, TOKEN, Twilio
from webhook_server import SECRET, Receiver

from usergrowth_dagster.messaging.gateways.protocol import Answer
from usergrowth_dagster.settings import Settings

CREDENTIALS = {
    "ALIYUN_ACCESS_KEY_ID": KEY_ID,
    "ALIYUN_ACCESS_KEY_SECRET": ALIYUN_SECRET,
    "TWILIO_ACCOUNT_SID": ACCOUNT,
    "TWILIO_AUTH_TOKEN": TOKEN,
    "WEBHOOK_SECRET": SECRET,
}


@pytest.mark.parametrize("name", ["aliyun", "twilio", "webhook"])
def test_certificate_is_checked(
    name: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against numbers shown to whoever stands in the way, and a loop of vain attempts."""
    for variable, value in CREDENTIALS.items():
        monkeypatch.setenv(f"USERGROWTH_{variable}", value)
    server, _ = certificate(tmp_path)
    provider: Provider = {"aliyun": Aliyun, "twilio": Twilio, "webhook": Receiver}[name]()
    with serving(provider, server):
        if isinstance(provider, Aliyun):
            case: AliyunCase | TwilioCase | WebhookCase = AliyunCase(provider, settings)
        elif isinstance(provider, Twilio):
            case = TwilioCase(provider, settings)
        else:
            assert isinstance(provider, Receiver)
            case = WebhookCase(provider, settings)
        results = case.patient().submit(make_batch(case, 3))
    assert {(r.answer, r.code) for r in results} == {(Answer.STOP, "certificate_not_trusted")}
    assert not provider.requests
