"""Texts through the real Kannel: bearerbox, smsbox and the fake SMSC, and reports that come back.

The fake SMSC makes the reports of success itself. For a failed delivery a second operator stands
beside it: Kannel's own HTTP SMSC, with a small HTTP server in the operator's place.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from sqlalchemy import select
from support.patience import until
from support.sending import people, plan, ready

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.kannel import local_kannel, prepare_credentials
from usergrowth_dagster.examples.kannel_boxes import (
    UNROUTED,
    Boxes,
    Ports,
    configuration,
    find_programs,
    run_boxes,
)
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.gateways.kannel import KannelGateway
from usergrowth_dagster.messaging.gateways.protocol import Answer
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import is_suppressed
from usergrowth_dagster.messaging.receiving.receipts import match_receipts
from usergrowth_dagster.settings import Settings

FAILING = "+99998"


@pytest.fixture(autouse=True)
def installed() -> None:
    try:
        find_programs()
    except UserError as error:
        pytest.skip(str(error))


pytestmark = pytest.mark.kannel


@contextmanager
def http_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def operator(kannel_port: int) -> Iterator[int]:
    """An operator that takes every text and reports later that it could not be delivered."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
            self.send_response(202)
            self.end_headers()
            self.wfile.write(b"0: Accepted for delivery")
            message = query["dlr-url"].rpartition("dlr-mid=")[2]
            threading.Thread(target=report, args=(message, query["to"])).start()

        def log_message(self, *_: object) -> None:
            return

    def report(message: str, to: str) -> None:
        time.sleep(0.3)
        text = quote("id:1 sub:001 dlvrd:000 stat:UNDELIV err:0D3 text:")
        httpx.get(
            f"http://127.0.0.1:{kannel_port}/?username=op&password=op&dlr-mask=2"
            f"&dlr-mid={message}&to={quote(to)}&text={text}",
            timeout=5,
        )

    with http_server(Handler) as port:
        yield port


def two_operators(text: str, port: int, address: int) -> str:
    """A configuration in which numbers that begin with FAILING go to the second operator."""
    text = text.replace(f'denied-prefix = "{UNROUTED}"', f'denied-prefix = "{UNROUTED};{FAILING}"')
    return text.replace(
        "group = smsbox\n",
        f"""group = smsc
smsc = http
system-type = kannel
smsc-id = failing
port = {port}
smsc-username = op
smsc-password = op
send-url = http://127.0.0.1:{address}/send
dlr-url = http://127.0.0.1:{port}/
allowed-prefix = {FAILING}

group = smsbox
""",
        1,
    )


@contextmanager
def forgetful(address: str, phone: str) -> Iterator[str]:
    """smsbox behind a proxy that loses the answer about one phone, after the text was taken."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {k: v for k, v in self.headers.items() if k.startswith(("X-", "Content-T"))}
            answer = httpx.post(address, content=body, headers=headers, timeout=10)
            if self.headers["X-Kannel-To"] == phone:
                self.close_connection = True
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            return

    with http_server(Handler) as port:
        yield f"http://127.0.0.1:{port}{urlsplit(address).path}"


def rows(store: ControlStore) -> dict[str, tuple[str, str | None, str | None]]:
    """State, reason and error code by user."""
    table = schema.message
    query = select(table.c.user_id, table.c.state, table.c.reason, table.c.error_code)
    with store.read() as connection:
        return {row[0]: (str(row[1]), row[2], row[3]) for row in connection.execute(query)}


def settled(store: ControlStore) -> bool:
    """Whether every row has its report; those that came early are matched as by a dispatcher."""
    match_receipts(store)
    return not {"accepted", "in_doubt"} & {state for state, *_ in rows(store).values()}


def refuses(store: ControlStore, settings: Settings, phone: str) -> bool:
    """Whether a phone is on the suppression list."""
    table = schema.message
    digest = open_vault(settings.home).digest(phone)
    query = select(table.c.id).where(table.c.phone_hash == digest, is_suppressed("sms", "示例商店"))
    with store.read() as connection:
        return connection.scalar(query) is not None


def test_texts_reports_and_a_reply(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Guards against texts whose fate never reaches the ledger, the one whose answer was lost
    included, a failure that looks like success, and a refusal that is not heard."""
    store, settings = ready(tmp_path / "home", f"sqlite:///{tmp_path / 'c.db'}")
    spare = Ports.free()
    numbers = {f"u{n}": f"+999000000{n:04d}" for n in range(40)}
    numbers |= {"failing": f"{FAILING}00000001", "unrouted": f"{UNROUTED}00000001"}
    lost = numbers["u7"]
    with ExitStack() as stack:
        address = stack.enter_context(operator(spare.operator))
        kannel = stack.enter_context(
            local_kannel(
                settings,
                Ports.free(),
                spare.sendsms,
                lambda text: two_operators(text, spare.operator, address),
            )
        )
        url = stack.enter_context(forgetful(kannel.settings.kannel_url, lost))
        sending = kannel.settings.model_copy(update={"kannel_url": url})
        plan(store, sending, people([(user, to, "李") for user, to in numbers.items()]))
        counts = dispatch(store, sending)
        assert (counts.accepted, counts.rejected, counts.in_doubt) == (40, 1, 1)
        until(lambda: settled(store))
        kannel.boxes.reply(numbers["u3"], " td ")
        until(lambda: refuses(store, settings, numbers["u3"]))
        assert not refuses(store, settings, numbers["u4"])
    messages = rows(store)
    assert messages.pop("failing")[0::2] == ("undelivered", "0D3")
    assert messages.pop("unrouted") == ("rejected", "provider_rejected", "403 not routable")
    assert {state for state, *_ in messages.values()} == {"delivered"}
    logs = "".join(p.read_text("utf-8") for p in (settings.home / "kannel").iterdir())
    everything = logs + "".join(capfd.readouterr())
    assert not [number for number in numbers.values() if number[1:] in everything]


def test_full_queue_is_no_doubt(settings: Settings) -> None:
    """Guards against a full queue that loses texts, or a wrong password that goes unnoticed."""
    from test_kannel_gateway import batch

    settings.home.mkdir(parents=True)
    user, password = prepare_credentials(settings.home)
    assert (user, password) == prepare_credentials(settings.home)
    ports = Ports.free()
    text = configuration(ports, user, password, "admin", "http://127.0.0.1:9/none")
    text = text.replace("group = core\n", "group = core\nsms-outgoing-queue-limit = 2\n")
    opened = settings.model_copy(
        update={"kannel_url": f"http://127.0.0.1:{ports.sendsms}/cgi-bin/sendsms"}
    )
    folder = settings.home / "kannel"
    with run_boxes(folder, text, ports, "admin") as boxes:
        _hang_up(boxes)
        results = KannelGateway(opened).submit(batch(12))
        answers = [result.answer for result in results]
        assert set(answers) == {Answer.ACCEPTED, Answer.DEFERRED}
        boxes.start("fakesmsc", [find_programs()["fakesmsc"], "-r", str(ports.operator)])
        boxes.await_operator()
        taken = answers.count(Answer.ACCEPTED)
        until(lambda: f"sent {taken} (0 queued), store" in boxes.status())
        time.sleep(0.5)
        assert f"sent {taken} (0 queued), store" in boxes.status()  # and none of the deferred
        with pytest.raises(UserError, match="listens on port"):
            ports.require_free()
    with run_boxes(folder, text.replace(password, "other"), ports, "admin"):
        assert {r.answer for r in KannelGateway(opened).submit(batch(12))} == {Answer.STOP}
    assert not [p for p in boxes.running.values() if p.poll() is None]


def _hang_up(boxes: Boxes) -> None:
    """Take the operator away; asked to end, it takes up to a minute now and then."""
    boxes.running["fakesmsc"].kill()
    boxes.running.pop("fakesmsc").wait(timeout=30)
    until(lambda: "(online" not in boxes.status().partition("SMSC connections")[2])
