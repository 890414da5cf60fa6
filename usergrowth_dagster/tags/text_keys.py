"""Keys of ``tags.yml`` about words: which texts of items have them, and a tag of a user's words."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, StringConstraints

from usergrowth_dagster.control.values import Strict

Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Texts = Annotated[tuple[Text, ...], Field(strict=False)]
Share = Annotated[float, Field(gt=0, le=1, strict=False)]


class ItemTexts(Strict):
    """Which texts of items are taken apart into words, and which words are kept."""

    keys: Annotated[tuple[Text, ...], Field(min_length=1, max_length=50, strict=False)] = Field(
        description="keys of the items' string attributes, such as title"
    )
    language: Literal["english", "chinese", "other"] = Field(
        "english",
        description="english leaves out stop words; chinese takes sentences apart with jieba; "
        "other splits at what is no letter or digit",
    )
    stop_words: Texts = Field((), description="further words that are left out")
    words: PositiveInt = Field(
        5000, le=100_000, description="words of the vocabulary at most, the most frequent ones"
    )
    least_items: PositiveInt = Field(2, description="items that a word has at least")
    most_share: Share = Field(0.5, description="share of the items above which a word says nothing")
    per_item: PositiveInt = Field(
        20, le=200, description="words of an item that are kept, those of the greatest weight"
    )


class Words(Strict):
    """The words of what a user took in the days before the date, the greatest weight first."""

    days: PositiveInt = Field(le=1000, description="days before the date that count")
    top: PositiveInt = Field(5, le=50, description="words of a user at most")
    behaviors: Texts = Field((), description="kinds of behavior that count; none: all with an item")
