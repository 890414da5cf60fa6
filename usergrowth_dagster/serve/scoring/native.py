"""The product's own door: ``POST /v1/score/<service>``, by user id or by rows.

``{"user_ids": [...]}`` is answered from the features of the newest day in the tables, ``{"rows":
[...]}`` from what the rows say. A user that the tables do not know is a row with a status.
"""

from datetime import date
from typing import Any

from usergrowth_dagster.serve.scoring.exchange import Refusal, Scored, plain
from usergrowth_dagster.serve.scoring.services import Served
from usergrowth_dagster.serve.scoring.stored import ByUser

KEYS = {"rows"}, {"user_ids"}, {"user_ids", "item_id"}


def by_user(document: Any) -> bool:
    """Whether a request names users.

    Raises:
        Refusal: it names neither users nor rows, or both.
    """
    if not isinstance(document, dict) or document.keys() not in KEYS:
        raise Refusal(400, "the body must be an object with rows, or with user_ids (and item_id)")
    value = document.get("rows", document.get("user_ids"))
    if not isinstance(value, list):
        raise Refusal(400, f"{'rows' if 'rows' in document else 'user_ids'} must be an array")
    return "user_ids" in document


def users_of(document: Any, served: Served) -> tuple[list[str], str | None]:
    """The users that a request names, and the item.

    Raises:
        Refusal: an id is no text, or the question is one of pairs and no item is named.
    """
    users, item = document["user_ids"], document.get("item_id")
    if not all(isinstance(user, str) for user in users):
        raise Refusal(400, "user_ids: every id must be a text")
    if not (item is None or isinstance(item, str)):
        raise Refusal(400, "item_id must be a text")
    if served.pairs and item is None:
        raise Refusal(400, f"{served.name} scores pairs of user and item: name item_id, too")
    return users, item


def rows_answer(request_id: str, scored: Scored) -> dict[str, Any]:
    """The answer to rows, in their order."""
    results = [{"score": score, "status": "ok"} for score in plain(scored.scores)]
    return _answer(request_id, scored.served, scored.as_of, results)


def users_answer(
    request_id: str, served: Served, users: list[str], known: ByUser
) -> dict[str, Any]:
    """The answer to user ids, in their order."""
    status = "stale" if known.stale else "ok"
    results = [
        {
            "user_id": user,
            "score": known.scores.get(user),
            "status": status if user in known.scores else "unknown_user",
        }
        for user in users
    ]
    return _answer(request_id, served, known.as_of, results)


def _answer(
    request_id: str, served: Served, as_of: date, results: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "model": served.name,
        "version": served.version,
        "as_of": as_of.isoformat(),
        "results": results,
    }


def refusal_of(status: int, sentence: str) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"status": status, "message": sentence}}
