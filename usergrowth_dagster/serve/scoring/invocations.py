"""The door of MLflow's scoring server: ``POST /invocations``.

The service is the one whose token the caller shows. The answer is what MLflow's own server gives of
the registered model: pairs of probabilities of 0 and 1, or one number a row.
"""

from typing import Any

from usergrowth_dagster.serve.scoring.exchange import Refusal, Request, Scored, plain

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def require_json(request: Request) -> None:
    """Refuse a body that says to be something else, as MLflow does.

    Raises:
        Refusal: with 415.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        named = f"is {kind[:60]}" if kind else "names no type"
        raise Refusal(415, f"the body must be application/json, and {named}")


def rows_of(document: Any) -> list[Any]:
    """The rows of a request.

    Raises:
        Refusal: the body does not hold exactly one of :data:`FORMS`, or that one is malformed.
    """
    given = [form for form in FORMS if isinstance(document, dict) and form in document]
    if len(given) != 1 or not document.keys() <= {*given, "params"}:
        raise Refusal(
            400, f"the body must be an object with exactly one of {', '.join(FORMS)}, and params"
        )
    (form,) = given
    value = document[form]
    if form == "dataframe_split":
        return _split(value)
    if isinstance(value, list):
        return value
    if form == "inputs" and isinstance(value, dict):
        return _columns(value)
    raise Refusal(400, f"{form} must be an array of objects by feature")


def _split(value: Any) -> list[Any]:
    if not isinstance(value, dict) or not {"columns", "data"} <= value.keys():
        raise Refusal(400, "dataframe_split must have columns and data")
    columns, data = value["columns"], value["data"]
    if not (isinstance(columns, list) and isinstance(data, list)):
        raise Refusal(400, "dataframe_split: columns and data must be arrays")
    for number, row in enumerate(data, 1):
        if not isinstance(row, list) or len(row) != len(columns):
            raise Refusal(
                400,
                f"dataframe_split: row {number} must have {len(columns)} values, as columns has",
            )
    return [dict(zip(map(str, columns), row, strict=True)) for row in data]


def _columns(value: dict[str, Any]) -> list[Any]:
    """Rows of columns, or of one value a feature."""
    columns = {name: one if isinstance(one, list) else [one] for name, one in value.items()}
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise Refusal(400, "inputs: every feature must have as many values as the others")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def answer_of(scored: Scored) -> dict[str, Any]:
    """``predictions``, in the order of the rows."""
    scores = plain(scored.scores)
    if not scored.served.shares:
        return {"predictions": scores}
    return {"predictions": [[None if p is None else 1 - p, p] for p in scores]}


def refusal_of(status: int, sentence: str) -> dict[str, Any]:
    """The body of an error, as MLflow words it."""
    codes = {400: "INVALID_PARAMETER_VALUE", 401: "UNAUTHENTICATED", 404: "RESOURCE_DOES_NOT_EXIST"}
    codes |= {429: "REQUEST_LIMIT_EXCEEDED", 503: "TEMPORARILY_UNAVAILABLE"}
    return {"error_code": codes.get(status, "BAD_REQUEST"), "message": sentence}
