"""What each provider is answered with, and who may call without the provider's own proof."""

import hmac
import json
from collections.abc import Sequence
from html import escape

from fastapi import Response

from usergrowth_dagster.messaging.credentials import credential
from usergrowth_dagster.messaging.gateways.protocol import (
    Callback,
    Receipt,
    Reply,
    Unread,
    UnsignedError,
)
from usergrowth_dagster.settings import Settings

TOKEN = "callback_token"
"""Credential: the part of the path that stands for a proof of origin."""

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<body style="font: 1.1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 4rem auto">
<p>{text}</p>{form}</body></html>
"""
_FORM = '<form method="post"><button style="font: inherit">Unsubscribe · 退订</button></form>'


def taken(
    gateway: str, items: Sequence[Receipt | Unread] | Sequence[Reply | Unread], *, replies: bool
) -> Response:
    """All is stored; what could not be read is kept, so that nothing need come again."""
    if gateway == "twilio":
        # an empty TwiML: no text is sent back
        return Response('<?xml version="1.0"?><Response></Response>', media_type="text/xml")
    if gateway == "kannel":
        return Response("", media_type="text/plain")  # what stands here would be texted back
    if gateway == "smtp" and replies:
        return page("Unsubscribed", "You will get no more of these e-mails. 已退订。", "")
    bad = [item for item in items if isinstance(item, Unread)]
    foreign = sum(1 for item in bad if item.raw is None)
    parts = [f"{len(items) - len(bad)} {'replies' if replies else 'receipts'} taken"]
    if len(bad) > foreign:
        parts.append(f"{len(bad) - foreign} could not be read and are kept")
    if foreign:
        parts.append(f"{foreign} of other systems passed over")
    return said(200, 0, ", ".join(parts))


def unsubscribe_form() -> Response:
    """The page behind an unsubscribe link: a mail scanner that follows it refuses nothing."""
    return page("Unsubscribe", "Do you want to get no more of these e-mails? 是否退订？", _FORM)


def page(title: str, text: str, form: str) -> Response:
    """A page for a person."""
    return Response(
        _PAGE.format(title=escape(title), text=escape(text), form=form), media_type="text/html"
    )


def said(status: int, code: int, sentence: str) -> Response:
    """``{"code": …, "msg": …}``, as Aliyun wants it; a temporary trouble asks to come again."""
    return Response(
        json.dumps({"code": code, "msg": sentence}, ensure_ascii=False),
        status_code=status,
        media_type="application/json",
        headers={"Retry-After": "5"} if status == 503 else {},
    )


def refused(status: int, sentence: str) -> Response:
    """Nothing was stored."""
    return said(status, status, sentence)


def check_origin(
    settings: Settings, gateway: str, token: str | None, callback: Callback, *, replies: bool
) -> None:
    """Ask for the token in the path where the gateway itself cannot tell who calls.

    That is the dry-run gateway, and e-mails that a mail server hands over.

    Raises:
        UnsignedError: the token is missing or wrong.
    """
    mail = gateway == "smtp" and replies and not callback.query.get("token")
    if token is None and gateway != "file" and not mail:
        return
    held = credential(settings.home, TOKEN, required=False)
    if held is None:
        raise UnsignedError(
            f"this address needs the credential {TOKEN} to be set, and its value in the path: "
            f"/{gateway}/<{TOKEN}>/…"
        )
    if not hmac.compare_digest((token or "").encode("utf-8", "replace"), held.encode()):
        raise UnsignedError(f"the path must hold the {TOKEN}: /{gateway}/<{TOKEN}>/…")
