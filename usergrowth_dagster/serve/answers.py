"""What providers are answered with, and who may call without the provider's own proof."""

import hmac
import json

from fastapi import Response

from usergrowth_dagster.messaging.credentials import credential
from usergrowth_dagster.messaging.gateways.protocol import (
    Brings,
    Callback,
    CallbackAnswer,
    Gateway,
    UnsignedError,
)
from usergrowth_dagster.settings import Settings

TOKEN = "callback_token"
"""Credential: the part of the path that stands for a proof of origin."""


def answered(answer: CallbackAnswer) -> Response:
    """A gateway's own answer."""
    return Response(answer.body, media_type=answer.media_type)


def said(status: int, code: int, sentence: str) -> Response:
    """``{"code": …, "msg": …}``; a temporary trouble asks to come again."""
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
    settings: Settings,
    gateway: type[Gateway],
    token: str | None,
    callback: Callback,
    brings: Brings,
) -> None:
    """Ask for the token in the path where the callback itself cannot prove who calls.

    That is the dry-run gateway, and e-mails that a mail server hands over.

    Raises:
        UnsignedError: the token is missing or wrong.
    """
    if token is None and gateway.proves_origin(brings, callback):
        return
    expected = credential(settings.home, TOKEN, required=False)
    if expected is None:
        raise UnsignedError(
            f"this address needs the credential {TOKEN} to be set, and its value in the path: "
            f"/{gateway.name}/<{TOKEN}>/…"
        )
    if not hmac.compare_digest((token or "").encode("utf-8", "replace"), expected.encode()):
        raise UnsignedError(f"the path must hold the {TOKEN}: /{gateway.name}/<{TOKEN}>/…")
