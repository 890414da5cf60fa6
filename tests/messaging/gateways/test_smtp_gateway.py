"""The mail gateway against a real SMTP server."""

import logging
import socket
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from smtp_server import MailBox, certificate, mail_server, only

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Callback,
    Found,
    OutBatch,
    OutMessage,
    UnsignedError,
)
from usergrowth_dagster.messaging.gateways.smtp import SmtpGateway
from usergrowth_dagster.settings import Settings

TEXT = "亲爱的李，礼券等你来领。\n.这一行以点开头\n回复 unsubscribe 退订"


def gateway(settings: Settings, port: int, **more: object) -> SmtpGateway:
    values = {
        "smtp_port": port,
        "smtp_from": "示例商店 <news@shop.example>",
        "gateway_timeout": 2.0,
    }
    return SmtpGateway(settings.model_copy(update={**values, **more}))


def batch(*addresses: str) -> OutBatch:
    return OutBatch(
        batch_id="7",
        schedule="冬",
        occurrence="o",
        channel="email",
        signature="示例商店",
        template_code="UG_1",
        template_type="promotion",
        submitted_time=datetime(2017, 12, 28, 2, tzinfo=UTC),
        messages=[OutMessage(str(n), f"u{n}", a, TEXT, {}) for n, a in enumerate(addresses, 1)],
        subject="新年\n礼券 🎁",
    )


def answers(results: object) -> list[tuple[str, str]]:
    return [(str(r.answer), r.code) for r in results]  # type: ignore[attr-defined]


def test_mails_arrive_whole_over_one_connection(settings: Settings) -> None:
    """Guards against text that is garbled on its way, a lost leading dot, and a line break that a
    subject smuggles into the headers."""
    box = MailBox()
    with mail_server(box) as port:
        sender = gateway(settings, port, callback_url="https://g.example/x/")
        results = sender.submit(batch("li@shop.example", "wang@bücher.example"))
    assert answers(results) == [("accepted", "250")] * 2
    assert box.connections == 1
    assert [address for address, _ in box.taken] == [
        "li@shop.example",
        "wang@xn--bcher-kva.example",
    ]
    first = box.mails()[0]
    assert first["Subject"] == "新年 礼券 🎁"
    assert first["From"].addresses[0].display_name == "示例商店"
    assert first.get_content().replace("\r\n", "\n").rstrip("\n") == TEXT
    assert first["Message-ID"] == f"<{sender.signed_id('1')}@shop.example>"
    assert f"ENVID={sender.signed_id('1')}".upper() in box.options  # aiosmtpd writes them so
    assert first["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link, mailto = first["List-Unsubscribe"].split(", ")
    assert mailto == "<mailto:news@shop.example?subject=unsubscribe>"
    assert "li@" not in link
    (reply,) = sender.parse_replies(Callback(b"List-Unsubscribe=One-Click", {}, link.strip("<>")))
    assert (reply.phone, reply.content, reply.signature) == (
        "li@shop.example",
        "UNSUBSCRIBE",
        "示例商店",
    )
    with pytest.raises(UnsignedError):
        sender.parse_replies(Callback(b"", {}, link.strip("<>")[:-4] + "AAAA"))


def test_refusals_of_one_leave_the_others(settings: Settings) -> None:
    """Guards against a bad address that ends the batch, and a full mailbox that is given up."""
    box = MailBox(dsn=False)
    box.replies = {
        "gone@shop.example": "550 5.1.1 gone@shop.example does not exist",
        "full@shop.example": "452 4.2.2 mailbox full",
        "data spam@shop.example": "554 5.7.1 looks like spam",
        "data busy@shop.example": "451 4.3.0 try again",
    }
    names = ["a@shop.example", *(name.removeprefix("data ") for name in box.replies)]
    with mail_server(box) as port:
        results = gateway(settings, port).submit(
            batch(*names, "not an address", "two@a.example, b@c.example\r\nX: y", "z@shop.example")
        )
    assert [str(r.answer) for r in results] == [
        *("accepted", "rejected", "deferred", "rejected", "deferred"),
        *("rejected", "rejected", "accepted"),
    ]
    assert [r.code for r in results[1:5]] == ["550 5.1.1", "452 4.2.2", "554 5.7.1", "451 4.3.0"]
    assert [r.retry_after for r in results if r.answer is Answer.DEFERRED] == [300.0, 300.0]
    assert box.counts() == Counter(["a@shop.example", "z@shop.example"])
    assert box.connections == 1
    assert not box.options


@pytest.mark.parametrize("how", ["data", "silence"])
def test_connection_lost_after_the_text_is_doubt(settings: Settings, how: str) -> None:
    """Guards against a second e-mail to somebody whose first was taken without an answer."""
    box = MailBox(drop={"b@shop.example": how})
    with mail_server(box) as port:
        results = gateway(settings, port, gateway_timeout=3.0).submit(
            batch("a@shop.example", "b@shop.example", "c@shop.example")
        )
    assert [str(r.answer) for r in results] == ["accepted", "in_doubt", "deferred"]
    assert box.counts()["b@shop.example"] == 1
    assert box.counts()["c@shop.example"] == 0


def test_connection_lost_before_the_text_is_no_doubt(settings: Settings) -> None:
    """Guards against rows that are held for a person though nothing can have been taken."""
    box = MailBox(drop={"b@shop.example": "rcpt"})
    with mail_server(box) as port:
        results = gateway(settings, port).submit(
            batch("a@shop.example", "b@shop.example", "c@x.example")
        )
    assert [str(r.answer) for r in results] == ["accepted", "deferred", "deferred"]
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        results = gateway(settings, nobody.getsockname()[1]).submit(batch("a@shop.example"))
    assert answers(results) == [("deferred", "ConnectionRefusedError")]


def test_slow_server_ends_within_the_time_limit(settings: Settings) -> None:
    """Guards against a batch that outlasts its lease, after which others call its rows lost."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        threading.Thread(target=silent.accept, daemon=True).start()
        results = gateway(settings, silent.getsockname()[1], gateway_timeout=0.5).submit(
            batch("a@shop.example", "b@shop.example")
        )
    assert [str(r.answer) for r in results] == ["deferred", "deferred"]


def scripted(last: bytes) -> int:
    """A server that takes one connection and answers the text with ``last``; its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        with server, server.accept()[0] as line, line.makefile("rb") as said:
            line.sendall(b"220 hello\r\n")
            for command in said:
                if command.startswith(b"DATA"):
                    line.sendall(b"354 go\r\n")
                    while said.readline() != b".\r\n":
                        pass
                    line.sendall(last)
                else:
                    line.sendall(b"250 fine\r\n")

    threading.Thread(target=talk, daemon=True).start()
    return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("last", "answer"),
    [
        (b"what?\r\n", "in_doubt"),
        (b"354 go on\r\n", "in_doubt"),
        (b"421 4.3.2 closing\r\n", "deferred"),
        (b"252 perhaps\r\n", "accepted"),
    ],
)
def test_answers_to_the_text(settings: Settings, last: bytes, answer: str) -> None:
    """Guards against an answer that means nothing and is taken for "not now"."""
    results = gateway(settings, scripted(last)).submit(batch("a@shop.example", "b@shop.example"))
    assert str(results[0].answer) == answer
    if answer != "accepted":
        assert str(results[1].answer) == "deferred"


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_what_concerns_all_stops(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a wrong password that rejects a whole audience one by one."""
    monkeypatch.setenv("USERGROWTH_SMTP_USER", "shop")
    with mail_server(MailBox()) as port, pytest.raises(UserError, match="belong together"):
        gateway(settings, port)
    monkeypatch.setenv("USERGROWTH_SMTP_PASSWORD", "wrong-secret")
    account = {"authenticator": only("shop", "secret"), "auth_require_tls": False}
    with mail_server(MailBox(), auth_required=True, **account) as port:
        assert (
            answers(gateway(settings, port).submit(batch("a@b.example", "c@d.example")))
            == [("stop", "535 5.7.8")] * 2
        )
        monkeypatch.setenv("USERGROWTH_SMTP_PASSWORD", "secret")
        assert gateway(settings, port).submit(batch("a@b.example"))[0].answer is Answer.ACCEPTED
    with mail_server(MailBox()) as port:  # offers no login at all
        assert answers(gateway(settings, port).submit(batch("a@b.example")))[0][0] == "stop"
    with pytest.raises(UserError, match="in the clear"):
        gateway(settings, 25, smtp_host="mail.example")
    monkeypatch.delenv("USERGROWTH_SMTP_USER")
    monkeypatch.delenv("USERGROWTH_SMTP_PASSWORD")
    box = MailBox(sender_reply="553 5.1.8 sender refused")
    with mail_server(box) as port:
        answered = answers(gateway(settings, port).submit(batch("a@b.example", "c@d.example")))
    assert answered == [("stop", "553 5.1.8")] * 2
    with mail_server(MailBox(), auth_required=True, **account) as port:
        assert answers(gateway(settings, port).submit(batch("a@b.example")))[0] == (
            "stop",
            "530 5.7.0",
        )
    with pytest.raises(UserError, match="smtp_from"):
        gateway(settings, 25, smtp_from="shop")


def test_encryption(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a certificate that nobody checks, and a password before the encryption."""
    context, trusted = certificate(tmp_path)
    monkeypatch.setenv("USERGROWTH_SMTP_USER", "shop")
    monkeypatch.setenv("USERGROWTH_SMTP_PASSWORD", "secret")
    account = {"authenticator": only("shop", "secret"), "auth_required": True}
    options = {"smtp_host": "localhost", "smtp_tls": "starttls"}
    box = MailBox()
    with mail_server(box, tls_context=context, require_starttls=True, **account) as port:
        untrusted = gateway(settings, port, **options).submit(batch("a@b.example"))
        assert answers(untrusted) == [("stop", "SSLCertVerificationError")]
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert (
            gateway(settings, port, **options)
            .submit(batch("a@b.example"))[0]
            .code.startswith("250")
        )
    with mail_server(
        MailBox(), authenticator=only("shop", "secret"), auth_require_tls=False
    ) as port:
        plain = gateway(settings, port, **options).submit(batch("a@b.example"))
        assert answers(plain) == [("stop", "SMTPNotSupportedError")]
    assert len(box.taken) == 1


DSN = """\
From: MAILER-DAEMON@mx.example
To: news@shop.example
Subject: Delivery Status Notification
Date: Thu, 28 Dec 2017 10:20:30 +0800
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

Something happened to your message.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example
{envelope}
Final-Recipient: rfc822; gone@shop.example
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 gone@shop.example unknown

--b
Content-Type: text/rfc822-headers
{encoding}
{quoted}
--b--
"""


def notification(mark: str, action: str = "failed", status: str = "5.1.1", **more: str) -> bytes:
    """A delivery status notification as mail servers write it."""
    fields = {
        "envelope": "",
        "encoding": "",
        "quoted": f"From: news@shop.example\nMessage-ID: <{mark}@shop.example>\n",
        **more,
    }
    return DSN.format(action=action, status=status, **fields).replace("\n", "\r\n").encode()


def test_notifications(settings: Settings) -> None:
    """Guards against bounces that are misread, and against forged ones."""
    mine = gateway(settings, 25)
    mark = mine.signed_id("42")
    expected = {
        "failed": (Found.UNDELIVERED, "5.1.1"),
        "delayed": (Found.ACCEPTED, "4.4.7"),
        "delivered": (Found.DELIVERED, "2.0.0"),
        "relayed": (Found.ACCEPTED, "2.1.9"),
    }
    for action, (fate, status) in expected.items():
        (receipt,) = mine.parse_receipts(Callback(notification(mark, action.upper(), status)))
        assert (receipt.status, receipt.out_id, receipt.code) == (fate, "42", status)
        assert receipt.time == datetime(2017, 12, 28, 2, 20, 30, tzinfo=UTC)
    base64 = __import__("base64").b64encode(f"Message-ID: <{mark}@x>\r\n".encode()).decode()
    hidden = notification("", encoding="Content-Transfer-Encoding: base64\n", quoted=base64)
    by_envelope = notification("", envelope=f"Original-Envelope-Id: {mark}\n", quoted="x: y")
    for body in (hidden, by_envelope):
        assert mine.parse_receipts(Callback(body))[0].out_id == "42"
    forged = mark.replace(".42.", ".43.")
    with pytest.raises(UnsignedError):
        mine.parse_receipts(Callback(notification(forged)))
    for bad in (b"", b"{}", b"From: a@b\n\nhello", notification("")):
        with pytest.raises(UserError, match="which of our e-mails"):
            mine.parse_receipts(Callback(bad))
    shown = f"Message-ID: <{mark}@x>\n".encode()
    for bad, why in (
        (notification(mark, "vanished"), "vanished"),
        (shown + b"\nhello", "message/delivery-status"),
        (shown + DSN.partition("Final-Recipient")[0].encode(), "Action"),
        (shown + b"--\n" * 300, "parts"),
        (mark.encode() + b" ", "no e-mail"),
    ):
        (unread,) = mine.parse_receipts(Callback(bad))
        assert why in unread.why and mark in unread.raw


def test_replies_by_mail(settings: Settings) -> None:
    """Guards against a refusal by mail that is not heard."""
    mine = gateway(settings, 25)
    head = "From: =?utf-8?b?5p2O?= <Li@Shop.example>\nDate: Thu, 28 Dec 2017 10:00:00 +0800\nMessage-ID: <x@y>\n"
    by_subject = f"{head}Subject: Unsubscribe\n\n".encode()
    by_text = (
        f"{head}Subject: Re: gift\nContent-Type: text/plain; charset=utf-8\n\n\n 退订 \n> quoted\n"
    )
    (one,) = mine.parse_replies(Callback(by_subject))
    assert (one.phone, one.content, one.sequence_id) == ("Li@Shop.example", "Unsubscribe", "<x@y>")
    assert mine.parse_replies(Callback(by_text.encode()))[0].content == "退订"
    (unread,) = mine.parse_replies(Callback(b"Subject: unsubscribe\n\nx"))
    assert "no sender" in unread.why and "unsubscribe" in unread.raw
    with pytest.raises(UserError, match="no e-mail"):
        mine.parse_replies(Callback(b"unsubscribe"))


@pytest.mark.parametrize(
    ("rest", "content"),
    [
        ("Subject: Re: gift\n\nSTOP\n> Reply STOP to opt out", "STOP"),
        ("Subject: stop!\n\nSent from my telephone", "stop!"),
        ("Subject: =?utf-8?b?6YCA6K6i?=\n\nhello", "退订"),
        ("Subject: =?nonsense?b?!!?=\n\nSTOP", "STOP"),
        ("Subject: Don't miss it: stop by\n\nthank you", "thank you"),
        ("Content-Type: text/plain; charset=nonsense\n\nSTOP", "STOP"),
        (
            "Content-Type: text/html\n\n<html><head><title>x</title></head><style>p{}</style>"
            "<p>&#83;TOP</p><p>Ann</p>",
            "STOP",
        ),
        (
            'Content-Type: multipart/mixed; boundary="b"\n\n--b\n'
            "Content-Disposition: attachment\n\nfile\n--b\n\nUnsubscribe me\n--b--",
            "Unsubscribe me",
        ),
        ("Subject: none", "none"),
    ],
)
def test_what_a_mail_says(settings: Settings, rest: str, content: str) -> None:
    """Guards against a refusal that a mail program wrote in a form of its own."""
    body = f"From: Li <li@shop.example>\n{rest}".encode()
    (reply,) = gateway(settings, 25).parse_replies(Callback(body))
    assert (reply.phone, reply.content) == ("li@shop.example", content)


def test_no_address_or_password_is_logged(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against logs and errors that show who is written to."""
    monkeypatch.setenv("USERGROWTH_SMTP_USER", "shop")
    monkeypatch.setenv("USERGROWTH_SMTP_PASSWORD", "hunter2secret")
    box = MailBox(replies={"gone@shop.example": "550 gone@shop.example unknown"})
    account = {"authenticator": only("shop", "hunter2secret"), "auth_require_tls": False}
    with mail_server(box, **account) as port:
        mine = gateway(settings, port)
        logging.getLogger("mail").setLevel(logging.CRITICAL)  # the server's own log is not ours
        with caplog.at_level(logging.DEBUG):
            results = mine.submit(batch("li@shop.example", "gone@shop.example", "bad\naddress"))
    said = (
        repr(results)
        + repr(mine)
        + "".join(r.getMessage() for r in caplog.records if r.name != "mail.log")
    )
    assert "@shop.example" not in said
    assert "hunter2secret" not in said
