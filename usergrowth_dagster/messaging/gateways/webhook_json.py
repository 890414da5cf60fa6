"""The JSON of the webhook gateway, written and read; :mod:`~.webhook` documents it."""

import json
from collections.abc import Mapping
from typing import Any

from usergrowth_dagster.messaging.gateways.cleaning import (
    CODE_SIZE,
    clean_id,
    clean_number,
    clean_text,
    one_answer_each,
)
from usergrowth_dagster.messaging.gateways.protocol import Answer, OutBatch, Result

_WAIT = 30.0
_DAY = 86_400.0


def batch_json(batch: OutBatch) -> dict[str, Any]:
    """What is posted for a batch."""
    return {
        "batch_id": batch.batch_id,
        "schedule": batch.schedule,
        "occurrence": batch.occurrence,
        "channel": batch.channel,
        "signature": batch.signature,
        "subject": batch.subject,
        "template_code": batch.template_code,
        "template_type": batch.template_type,
        "submitted_time": batch.submitted_time.isoformat(),
        "messages": [
            {
                "out_id": message.out_id,
                "user_id": message.user_id,
                "to": message.phone,
                "text": message.text,
                "params": dict(message.params),
                "segments": message.segments,
            }
            for message in batch.messages
        ],
    }


def results_of(batch: OutBatch, body: bytes) -> list[Result]:
    """One result a message; one that the receiver did not give, or not rightly, is in doubt."""
    results = []
    for entry in entries_of(body, "results"):
        try:
            answer = Answer(str(entry.get("answer")))
        except ValueError:
            answer = Answer.IN_DOUBT
        wait = wait_seconds(entry.get("retry_after")) if answer is Answer.DEFERRED else None
        code, request_id = code_and_id(entry)
        code = code or ("no_answer" if answer is Answer.IN_DOUBT else "")
        results.append(Result(entry["out_id"], answer, code, request_id, wait))
    return list(one_answer_each((message.out_id for message in batch.messages), results).values())


def entries_of(body: bytes, key: str) -> list[dict[str, Any]]:
    """The objects with an ``out_id`` under a key of the receiver's answer; none in a wrong form.

    An object in which a key comes twice says two things at once, so that nothing is believed.
    """
    try:
        content = json.loads(body, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return []
    entries = content.get(key) if isinstance(content, dict) else None
    return [
        entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("out_id"), str)
    ]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key comes twice")
    return made


def code_and_id(entry: Mapping[str, Any]) -> tuple[str, str | None]:
    """Code and request id, as long as the ledger holds."""
    request_id = clean_id(entry.get("request_id"), CODE_SIZE)
    return clean_text(entry.get("code"), CODE_SIZE), request_id


def wait_seconds(value: Any) -> float:
    """A wait between a second and a day."""
    return clean_number(value, 1.0, _DAY, _WAIT)
