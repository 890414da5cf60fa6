"""The door of the Open Inference Protocol V2: ``POST /v2/models/<service>/infer``.

One tensor a flat feature comes in, the tensor ``score`` goes out.
"""

import json
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from usergrowth_dagster.serve.scoring.exchange import Refusal, Request, Scored, plain
from usergrowth_dagster.serve.scoring.services import Served
from usergrowth_dagster.serve.scoring.tensors import LENGTH_HEADER, columns_of

OUTPUT = "score"


def split(request: Request) -> tuple[Request, bytes]:
    """The request with its JSON alone, and the binary values behind it.

    Raises:
        Refusal: the header does not say how long the JSON is.
    """
    length = request.headers.get(LENGTH_HEADER)
    if length is None:
        return request, b""
    if not (length.isascii() and length.isdigit()) or int(length[:12]) > len(request.body):
        raise Refusal(400, f"{LENGTH_HEADER} must be the length of the body's JSON")
    size = int(length)
    return replace(request, body=request.body[:size]), request.body[size:]


def rows_of(document: Any, tail: bytes) -> list[Any]:
    """The rows of a request.

    Raises:
        Refusal: it is malformed, or asks for an output that there is not.
    """
    if not isinstance(document, dict):
        raise Refusal(400, "the body must be an object with inputs")
    outputs = document.get("outputs") or []
    if not isinstance(outputs, list) or any(
        not isinstance(one, dict) or one.get("name") != OUTPUT for one in outputs
    ):
        raise Refusal(400, f"outputs: the model has one output, {OUTPUT}")
    columns = columns_of(document.get("inputs"), tail)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def answer_of(document: Any, scored: Scored) -> dict[str, Any]:
    """The scores as a tensor of shape [n]."""
    return {
        "model_name": scored.served.name,
        "model_version": str(scored.served.version),
        **({"id": document["id"]} if isinstance(document.get("id"), str) else {}),
        "parameters": {"feature_date": scored.as_of.isoformat()},
        "outputs": [
            {
                "name": OUTPUT,
                "datatype": "FP64",
                "shape": [len(scored.scores)],
                "data": plain(scored.scores),
            }
        ],
    }


def server() -> dict[str, Any]:
    """What ``GET /v2`` says."""
    release = version("usergrowth-dagster")
    return {"name": "usergrowth", "version": release, "extensions": ["binary_tensor_data"]}


def metadata(served: Served) -> dict[str, Any]:
    """What ``GET /v2/models/<service>`` says: the features of the version that answers."""
    return {
        "name": served.name,
        "versions": [str(served.version)],
        "platform": "usergrowth",
        "inputs": [
            {
                "name": feature.name,
                "datatype": "FP64" if feature.kind == "number" else "BYTES",
                "shape": [-1],
            }
            for feature in served.scorer.reader.spec.features
        ],
        "outputs": [{"name": OUTPUT, "datatype": "FP64", "shape": [-1]}],
    }


def refusal_of(sentence: str) -> dict[str, Any]:
    """The body of an error."""
    return {"error": sentence}


def dumped(document: Any) -> bytes:
    """A document as JSON without blanks."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
