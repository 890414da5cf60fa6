"""The product's own doors of recommendation, and the way of a request through any of them.

``POST /v1/recommend`` answers with items; ``POST /v1/recommend/clicks`` takes a click on one of
them. The doors of Amazon Personalize are in :mod:`usergrowth_dagster.serve.scoring.personalize`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from usergrowth_dagster.recommend.answer_log import Answered
from usergrowth_dagster.serve.scoring import personalize
from usergrowth_dagster.serve.scoring.exchange import Refusal, Request
from usergrowth_dagster.serve.scoring.recommending import MOST_ITEMS, Ask, Recommending

DOORS = (
    ("recommend", "POST", re.compile(r"/v1/recommend")),
    ("recommend_clicks", "POST", re.compile(r"/v1/recommend/clicks")),
    ("personalize", "POST", re.compile(r"/recommendations")),
    ("personalize_ranking", "POST", re.compile(r"/personalize-ranking")),
    ("personalize_events", "POST", re.compile(r"/events")),
)
"""Name, method and path of each door."""
NAMES = frozenset(name for name, _, _ in DOORS)

Id = Annotated[str, Field(min_length=1, max_length=256)]
Keys = TypeVar("Keys", bound=BaseModel)


class Context(BaseModel):
    """What the caller knows of the moment."""

    model_config = ConfigDict(extra="forbid")

    recent: list[Id] = Field([], max_length=100)


class Wanted(BaseModel):
    """The body of ``/v1/recommend``."""

    model_config = ConfigDict(extra="forbid")

    user_id: str = Field("", max_length=256)
    n: int = Field(10, ge=1, le=MOST_ITEMS)
    scene: str = Field("", pattern=r"^[A-Za-z0-9_.-]{0,40}$")
    exclude: list[Id] = Field([], max_length=1_000)
    context: Context = Context()
    explain: bool = False


class Click(BaseModel):
    """The body of ``/v1/recommend/clicks``."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    item_id: Id
    event: str = Field("click", pattern=r"^[A-Za-z0-9_.-]{1,40}$")


@dataclass(frozen=True)
class Reply:
    """What a door answers: a document, the items in it, and headers."""

    document: Any
    items: int
    headers: Mapping[str, str]


async def reply(door: str, request: Request, recommending: Recommending) -> Reply:
    """The answer of one of :data:`NAMES`.

    Raises:
        Refusal: the body breaks the door's rules, or no recommendations are loaded.
    """
    document = request.document()
    if door == "recommend_clicks":
        click = checked(Click, document)
        recommending.log.clicked(click.request_id, click.item_id, click.event)
        return Reply({"status": "ok"}, 0, {})
    if door == "personalize_events":
        for event in checked(personalize.Events, document).clicks():
            recommending.log.clicked(*event)
        return Reply({}, 0, {})
    wanted: Any = checked(_BODIES[door], document)
    ask = _ask(wanted) if isinstance(wanted, Wanted) else wanted.ask()
    answer, day = await recommending.answer(ask)
    headers = {
        "x-model-name": "recommend",
        "x-model-version": answer.version,
        "x-feature-date": day.isoformat(),
    }
    if isinstance(wanted, Wanted):
        made = _document(answer, explain=wanted.explain)
    else:
        made = wanted.document(answer)
    return Reply(made, len(answer.items), headers)


_BODIES: Mapping[str, type[BaseModel]] = {
    "recommend": Wanted,
    "personalize": personalize.Recommendations,
    "personalize_ranking": personalize.Ranking,
}


def checked(keys: type[Keys], document: Any) -> Keys:
    """A body by its keys.

    Raises:
        Refusal: with 400; the sentence names the key and the rule, and no value.
    """
    try:
        return keys.model_validate(document, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        raise Refusal(400, f"{place}: {first['msg']}") from None


def _ask(wanted: Wanted) -> Ask:
    exclude, recent = frozenset(wanted.exclude), tuple(wanted.context.recent)
    return Ask(wanted.user_id, wanted.n, wanted.scene, exclude, recent)


def _document(answer: Answered, *, explain: bool) -> dict[str, Any]:
    items = [
        {
            "item_id": item.item_id,
            "score": item.score,
            "recall": list(item.routes),
            **({"places": dict(item.places)} if explain else {}),
        }
        for item in answer.items
    ]
    return {
        "request_id": answer.request_id,
        "model_version": answer.version,
        "exp_bucket": answer.bucket,
        "items": items,
        "fallback": answer.fallback,
        **({"order": answer.order} if explain else {}),
    }
