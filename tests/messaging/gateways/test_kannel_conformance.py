"""The Kannel gateway under the suite of all gateways, against smsbox's wire format."""

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote

import pytest
from conformance import TIMEOUT, Conformance, Mood
from http_provider import Answered, Provider, Request, ServedCase, closed_port, serving

from usergrowth_dagster.messaging.gateways.kannel import KannelGateway
from usergrowth_dagster.messaging.gateways.protocol import Callback, OutBatch, Result
from usergrowth_dagster.messaging.gateways.registry import make_gateway
from usergrowth_dagster.settings import Settings

ANSWERS = {
    Mood.DEFER: (503, "Temporal failure, try again later."),
    Mood.STOP: (403, "Authorization failed for sendsms"),
}


class Smsbox(Provider):
    """smsbox's ``sendsms`` by POST; keeps the address for reports by recipient."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: dict[str, str] = {}

    def handle(self, request: Request) -> Answered:
        """One message."""
        assert (request.method, request.path) == ("POST", "/cgi-bin/sendsms")
        assert not request.query
        headers = {k.removeprefix("x-kannel-"): v for k, v in request.headers.items()}
        assert (headers["username"], headers["password"]) == ("shop", "hunter2secret")
        to, text = headers["to"], request.body.decode()
        self.attempts.append(to)
        if self.mood in ANSWERS:
            return Answered(*ANSWERS[self.mood], True)
        if self.mood is Mood.REFUSE_ONE and to == self.bad:
            return Answered(403, "Not routable. Do not try again.", True)
        if self.takes:
            self.taken.append(to)
            self.texts[to] = text
            self.reports[to] = headers["dlr-url"]
        return Answered(202, "0: Accepted for delivery", True)


class KannelCase(ServedCase[Smsbox]):
    looks_up = False

    def __init__(self, provider: Smsbox, settings: Settings) -> None:
        self.provider = provider
        self.settings = settings.model_copy(
            update={
                "gateway": "kannel",
                "kannel_url": f"{provider.url}/cgi-bin/sendsms",
                "gateway_timeout": TIMEOUT,
                "callback_url": "https://ug.example",
            }
        )
        gateway = make_gateway(self.settings)
        assert isinstance(gateway, KannelGateway)
        self.gateway: KannelGateway = gateway

    def set_mood(self, mood: Mood, address: str | None = None) -> None:
        self.provider.mood, self.provider.bad = mood, address or ""

    def unreachable(self) -> KannelGateway:
        url = f"http://127.0.0.1:{closed_port()}/cgi-bin/sendsms"
        return KannelGateway(self.settings.model_copy(update={"kannel_url": url}))

    def report(
        self, batch: OutBatch, results: Sequence[Result], delivered: Mapping[str, bool]
    ) -> Sequence[Callback]:
        return [
            Callback(b"", {}, filled(self.provider.reports[m.phone], delivered[m.out_id]))
            for m in batch.messages
        ]

    def garbage(self) -> Sequence[Callback]:
        url = filled(next(iter(self.provider.reports.values())), True)
        return [
            Callback(b"", {}, bad)
            for bad in (
                url.replace("out_id=", "out_id=1"),
                url.replace("mark=", "mark=0"),
                url.replace("status=1", "status=x"),
                url.replace("status=1", "status=0"),
                unquote(url).partition("?")[0],
            )
        ]


def filled(url: str, delivered: bool) -> str:
    """A report's address, as Kannel fills it."""
    return (
        url.replace("%d", "1" if delivered else "2")
        .replace("%A", "id:1")
        .replace("%T", "1514426400")
    )


@pytest.fixture
def case(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[KannelCase]:
    monkeypatch.setenv("USERGROWTH_KANNEL_USER", "shop")
    monkeypatch.setenv("USERGROWTH_KANNEL_PASSWORD", "hunter2secret")
    provider = Smsbox()
    with serving(provider):
        yield KannelCase(provider, settings)


class TestKannel(Conformance):
    """The suite of all gateways; the fixture ``case`` is this module's."""
