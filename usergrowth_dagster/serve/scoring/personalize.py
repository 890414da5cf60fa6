"""Doors in the form of Amazon Personalize: its runtime, and the events that its clients put.

A client of Amazon's SDK is pointed here by its endpoint. What this service has no part for is
refused where passing it over would change the answer (filters, promotions), and else passed over
(the names of campaigns, recommenders and trackers, sessions, context).
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from usergrowth_dagster.recommend.answer_log import Answered
from usergrowth_dagster.recommend.recommender import Item
from usergrowth_dagster.serve.scoring.recommending import MOST_ITEMS, Ask

DEFAULT_ITEMS = 25
"""Items of an answer where a request names no number, as Personalize has it."""

ERRORS: Mapping[int, str] = {
    401: "UnrecognizedClientException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}
"""What an SDK is to raise, by status; else one for all below 500, and one for the others."""

PATHS = ("/recommendations", "/personalize-ranking", "/events")

Id = Annotated[str, Field(max_length=256)]


class _Runtime(BaseModel):
    """What both requests for items have.

    Attributes:
        filterArn, filterValues, promotions: refused.
    """

    userId: Id = ""
    filterArn: str | None = None
    filterValues: dict[str, str] = {}
    promotions: list[Any] = []

    @field_validator("filterArn", "filterValues", "promotions")
    @classmethod
    def _not_here(cls, value: Any) -> Any:
        if value:
            raise ValueError("this service has no filters and no promotions")
        return value


class Recommendations(_Runtime):
    """The body of ``GetRecommendations``: for a user, an item, or both."""

    itemId: Id = ""
    numResults: int = Field(0, ge=0, le=MOST_ITEMS)

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.userId and not self.itemId:
            raise ValueError("userId or itemId must be named")
        return self

    def ask(self) -> Ask:
        """The request, where the item counts as one that the user has just taken."""
        recent = (self.itemId,) if self.itemId else ()
        n = self.numResults or DEFAULT_ITEMS
        return Ask(self.userId, n, "personalize", recent=recent)

    def document(self, answer: Answered) -> dict[str, Any]:
        """The answer."""
        return {
            "itemList": [_item(one) for one in answer.items],
            "recommendationId": answer.request_id,
        }


class Ranking(_Runtime):
    """The body of ``GetPersonalizedRanking``."""

    inputList: list[Id] = Field(min_length=1, max_length=MOST_ITEMS)

    def ask(self) -> Ask:
        """The request; an item that stands twice counts once."""
        given = tuple(dict.fromkeys(self.inputList))
        return Ask(self.userId, len(given), "personalize-ranking", given=given)

    def document(self, answer: Answered) -> dict[str, Any]:
        """The answer."""
        return {
            "personalizedRanking": [_item(one) for one in answer.items],
            "recommendationId": answer.request_id,
        }


class Event(BaseModel):
    """One event; without a recommendation or an item it says nothing about an answer."""

    eventType: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    itemId: Id | None = None
    recommendationId: str | None = Field(None, max_length=40)


class Events(BaseModel):
    """The body of ``PutEvents``."""

    eventList: list[Event] = Field(min_length=1, max_length=10)

    def clicks(self) -> Iterator[tuple[str, str, str]]:
        """Answer, item and kind of each event that names an answer and an item."""
        for event in self.eventList:
            if event.recommendationId and event.itemId:
                yield event.recommendationId, event.itemId, event.eventType


def refusal_of(status: int, sentence: str) -> tuple[dict[str, str], dict[str, str]]:
    """Body and headers of an error, by which an SDK raises its own."""
    other = "InvalidInputException" if status < 500 else "InternalServerException"
    kind = ERRORS.get(status, other)
    return {"message": sentence}, {"x-amzn-errortype": kind}


def _item(item: Item) -> dict[str, Any]:
    """An item; one that nothing speaks for has no score."""
    return {"itemId": item.item_id, **({"score": item.score} if item.places else {})}
