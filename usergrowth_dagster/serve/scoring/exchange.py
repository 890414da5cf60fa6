"""One request and its answer, as every door sees them; no door knows of the server."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usergrowth_dagster.serve.scoring.services import Served


class Refusal(Exception):
    """A request that is not answered: the HTTP status and one sentence.

    Args:
        status: of HTTP.
        sentence: names what is wrong and repeats no value of a feature.
        after: seconds after which to come again; None: not at all, as it is.
    """

    def __init__(self, status: int, sentence: str, after: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.after = status, sentence, after


@dataclass(frozen=True)
class Request:
    """What a caller sent.

    Attributes:
        method: of HTTP.
        path: without the query.
        query: parameters by name, the last of each.
        headers: by lower-case name.
        body: whole.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def extra(self) -> bool:
        """Whether names that the model does not know are passed over."""
        return self.query.get("extra") == "ignore"

    def document(self) -> Any:
        """The body's JSON.

        Raises:
            Refusal: it is none.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Refusal(400, "the body must be JSON in UTF-8, and is none") from None


@dataclass(frozen=True)
class Scored:
    """Scores of the rows of a request.

    Attributes:
        served: the version that gave them.
        scores: shape (n,).
        as_of: the date of the features.
    """

    served: "Served"
    scores: "NDArray[np.float64]"
    as_of: date


@dataclass(frozen=True)
class Answer:
    """What a door answers: a JSON document, and what every answer says in its headers."""

    document: Any
    served: "Served"
    as_of: date
    rows: int
    headers: Mapping[str, str] = field(default_factory=dict)


def plain(scores: "NDArray[np.float64]") -> list[float | None]:
    """Scores for JSON; what is no number is null."""
    return [score if math.isfinite(score) else None for score in scores.tolist()]
