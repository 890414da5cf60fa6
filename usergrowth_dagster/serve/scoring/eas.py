"""The door of PAI-EAS's PMML processor: ``POST /api/predict/<service>``.

An array of flat objects comes in, an array of as many objects goes out, in the same order. A
feature that is missing or null is unknown. The token stands in ``Authorization`` as it is.
"""

from typing import Any

from usergrowth_dagster.serve.scoring.exchange import Refusal, Scored, plain

NAMES = ("p_0", "p_1", "prediction")
"""The outputs of a probability; an amount or an effect has the last one alone."""


def rows_of(document: Any) -> list[Any]:
    """The rows of a request; one object stands for an array of it.

    Raises:
        Refusal: the body is neither.
    """
    if isinstance(document, dict):
        return [document]
    if not isinstance(document, list):
        raise Refusal(400, "the body must be an array of objects")
    return document


def answer_of(scored: Scored, names: tuple[str, str, str] = NAMES) -> list[dict[str, Any]]:
    """An object a row."""
    scores = plain(scored.scores)
    if not scored.served.shares:
        return [{names[2]: score} for score in scores]
    none, one, label = names
    return [
        {none: None, one: None, label: None}
        if score is None
        else {none: 1 - score, one: score, label: int(score >= 0.5)}
        for score in scores
    ]


def refusal_of(status: int, sentence: str) -> dict[str, Any]:
    """The body of an error."""
    return {"code": status, "message": sentence}
