"""An occurrence in which people have the one or the other of two texts."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from usergrowth_dagster.control.codes import OccurrenceState
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.schedules.occurrences import Occurrence

VAULT = PhoneVault.from_secret(b"0123456789abcdef")


def two_texts(
    channel: str, address: Callable[[int], str], size: int
) -> tuple[Occurrence, list[dict[str, Any]]]:
    """A planned occurrence with two texts, and rows of the ledger that have the one or the other."""
    mail = channel == "email"
    texts = {
        "plain": ("亲爱的${name}，新年好 🎁。拒收请回复R", "UG_000001", "新年好"),
        "gift": ("${name}，${gift}是您的礼物 <b>+%。拒收请回复R", "SMS_2", "新年礼券 🎁"),
    }
    variants = {
        name: {"content": text, "template_code": code, "subject": subject if mail else None}
        for name, (text, code, subject) in texts.items()
    }
    now = datetime.now(UTC)
    made = Occurrence(
        *(1, 1, "冬季 send", "20171228-december", "december", channel),
        *(OccurrenceState.SENDING, None, now, now, "示例商店"),
        template_type="promotion",
        price=0.045,
        currency="CNY",
        variants=variants,
        **variants["plain"],
    )
    names = ["plain", "gift", "gift", "plain", "gift", "plain", "plain"]
    rows = [
        {
            "id": 1000 + n,
            "user_id": f"u{n}",
            "phone_number": VAULT.seal(address(n)),
            "template_params": json.dumps(
                {"name": f"客{n}"} | ({"gift": f"茶{n}&+%"} if names[n % 7] == "gift" else {})
            ),
            "variant": names[n % 7],
            "segments": 1,
        }
        for n in range(1, size + 1)
    ]
    return made, rows
