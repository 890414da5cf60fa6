"""Alerts to the operator's webhook: delivery needs a person."""

import logging
from typing import Any

from usergrowth_dagster.settings import Settings

_TIMEOUT = 10.0
_log = logging.getLogger(__name__)


def post(settings: Settings, event: str, **facts: Any) -> bool:
    """Post ``{"event": …, …}`` to the setting ``failure_webhook``; returns whether it was taken.

    The facts are names and counts, never a person's. A webhook that does not answer must not hold
    up delivery: that is logged, and the record's history has the event anyhow.
    """
    if not settings.failure_webhook:
        return False
    import httpx

    try:
        httpx.post(
            settings.failure_webhook, json={"event": event, **facts}, timeout=_TIMEOUT
        ).raise_for_status()
    except Exception as error:
        # its text would hold the URL, and with it perhaps a secret
        _log.warning("the failure webhook did not take %s: %s", event, type(error).__name__)
        return False
    return True
