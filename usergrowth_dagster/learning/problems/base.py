"""What a question is: the one class that a new question derives from.

A question is one file: a subclass of :class:`Problem` with its label, and one SQL model of its
training rows with the yml beside it. Everything else follows: its asset, its block in the campaign
file, its registered model, its words on cards, reports and pages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)

from usergrowth_dagster.settings import Settings
from usergrowth_dagster.stages import Stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usergrowth_dagster.learning.encoding import FeatureSpec
    from usergrowth_dagster.learning.rows import Slice

Days = Annotated[int, Field(ge=1, le=90)]
LONGEST_LABEL = 90
"""Days: no label but that of a lifetime value looks further ahead."""


@dataclass(frozen=True)
class Returns:
    """What counts as a return; None where nobody has said so.

    Attributes:
        days: days from the execution date to the last day that counts.
        behaviors: kinds of behavior that count; empty: any.
        on_item: whether only behavior on the row's item counts.
        same_day: whether the execution date counts too.
    """

    days: int | None = None
    behaviors: tuple[str, ...] | None = None
    on_item: bool | None = None
    same_day: bool | None = None


class Block(BaseModel):
    """A question's keys in a campaign file, below ``algorithm``.

    Attributes:
        kind: name of the question.
        earlier: keys of other questions, which campaigns on record hold as null.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, str_strip_whitespace=True)

    earlier: ClassVar[tuple[str, ...]] = ()

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _own_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        foreign = [key for key in cls.earlier if value.get(key) is not None]
        if foreign:
            raise ValueError(
                f"{foreign[0]} does not belong to the kind {value.get('kind')!r}; remove it"
            )
        return {key: kept for key, kept in value.items() if key not in cls.earlier}

    @model_serializer(mode="wrap")
    def _whole(self, own: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {**dict.fromkeys(self.earlier), **own(self)}

    @property
    def returns(self) -> Returns:
        """What the question counts as a return, where the campaign's ``effect`` says nothing."""
        return Returns()


@dataclass(frozen=True)
class Asked:
    """What a campaign says that its questions are made from.

    Attributes:
        block: the campaign's ``algorithm``.
        returns: what it counts as a return, complete.
        channel: how its people are reached.
        by_effect: whether it chooses by the effect of a text.
    """

    block: Block
    returns: Returns
    channel: str
    by_effect: bool


@dataclass(frozen=True)
class Words:
    """What people read about a question.

    Attributes:
        asset: the description of its asset, a sentence.
        asks: the question in a report, such as ``who comes back after a text``.
        score: what its score is, such as ``chance of coming back``.
        came_true: what a row with a true label did, such as ``came back``.
        rows: the rows that it learns from, for the card.
        limit: what it does not answer, for the card, a sentence.
        first: the first row, such as ``the first snapshot``.
        shorter: the key that makes its label close earlier.
        stage: the stage of a user's life that it is about, and the group of its asset; None: it is
            about none in particular.
    """

    asset: str
    asks: str
    score: str
    came_true: str = "came true"
    rows: str = "users with an event in the days before each snapshot"
    limit: str = "It says what people do, not what a text changes."
    first: str = "the first snapshot"
    shorter: str = "days"
    stage: Stage | None = None


class Problem(BaseModel):
    """A question; its fields are the settings that define the label, an instance holds them.

    A subclass sets ``name``, ``words`` and its fields, and defines :meth:`label_sql` and
    :attr:`horizon_days`.

    Attributes:
        name: of the question, of its registered model, and of ``kind`` in a campaign file.
        target: the kind of its answer, see :mod:`usergrowth_dagster.learning.targets`.
        amounts: whether the label, and so the score, is an amount rather than true or false.
        aliases: other names for it in a campaign file.
        campaign_block: its keys in a campaign file; None: its own fields.
        asked_in_campaigns: whether a campaign file may name it.
        promotions_only: whether its campaigns send promotions only.
        by_touch: whether its rows are touches, on the days that have some, rather than snapshots.
        pairs: whether its rows are pairs of user and item rather than users.
        staying: whether a return means that an active user has stayed.
        ranking_only: names of baselines that rank and give no probability.
        parts_by: what else the figures are split by: a name, with a column of the features and the
            key of its map.
        earlier: settings of other questions that records of before hold beside its own.
        asked_before: hash of the question since before questions had hashes of their own; while
            it asks the same, models of that time answer it. Empty: it is younger.
        words: what people read about it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    target: ClassVar[str] = "binary"
    amounts: ClassVar[bool] = False
    aliases: ClassVar[tuple[str, ...]] = ()
    campaign_block: ClassVar[type[Block] | None] = None
    asked_in_campaigns: ClassVar[bool] = True
    promotions_only: ClassVar[bool] = False
    by_touch: ClassVar[bool] = False
    pairs: ClassVar[bool] = False
    staying: ClassVar[bool] = False
    ranking_only: ClassVar[tuple[str, ...]] = ()
    parts_by: ClassVar[Mapping[str, tuple[str, str]]] = {}
    earlier: ClassVar[Mapping[str, object]] = {}
    asked_before: ClassVar[str] = ""
    words: ClassVar[Words]

    @classmethod
    def training_table(cls) -> str:
        """The SQL model of its training rows."""
        return f"{cls.name}_training"

    @classmethod
    @cache
    def block(cls) -> type[Block]:
        """Its keys in a campaign file."""
        if cls.campaign_block is not None:
            return cls.campaign_block
        fields: dict[str, Any] = {
            name: (field.annotation, field) for name, field in cls.model_fields.items()
        }
        fields["kind"] = (Literal[cls.name], cls.name)
        made: type[_OwnBlock] = create_model(
            f"{cls.__name__}Block", __base__=_OwnBlock, __doc__=cls.__doc__, **fields
        )
        made.problem = cls
        return made

    @classmethod
    def is_asked(cls, asked: Asked) -> bool:
        """Whether a campaign needs its answer."""
        return asked.block.kind == cls.name

    @classmethod
    def of(cls, asked: Asked, settings: Settings) -> Self:
        """The question with the settings that a campaign gives it.

        Raises:
            ValidationError: a setting is out of its range.
        """
        return cls.model_validate(asked.block.model_dump(include=set(cls.model_fields)))

    @classmethod
    def default(cls, settings: Settings) -> Self | None:
        """The question as a home without campaigns asks it; None: nobody asks it there."""
        return cls()

    @property
    def horizon_days(self) -> int:
        """Days from a snapshot until its label is closed."""
        raise NotImplementedError

    @property
    def reach_days(self) -> int:
        """Days ahead that the label looks, as the limit of labels counts them."""
        return self.horizon_days

    def most_days(self, settings: Settings) -> int:
        """The most days ahead that the rows of :meth:`training_table` look."""
        return settings.label_horizon_days

    @property
    def label_settings(self) -> dict[str, object]:
        """The settings that define the label and the rows it is asked of, in JSON's types.

        Models of equal ones answer the same question; see :meth:`TrainingConfig.config_hash`.
        """
        return {"algorithm": self.name, **self.model_dump(mode="json")}

    def record(self, mode: Literal["json", "python"] = "json") -> dict[str, Any]:
        """Its settings as records of trainings hold them."""
        return {**self.earlier, **self.model_dump(mode=mode)}

    def label_sql(self) -> str:
        """The SQL expression of the label over the training relation's label columns."""
        raise NotImplementedError

    def positive_sql(self) -> str:
        """The boolean SQL expression of rows that something followed: those counted as positive."""
        return f"{self.label_sql()} > 0" if self.amounts else self.label_sql()

    @property
    def past_feature(self) -> tuple[str, str | None] | None:
        """Column and key of what an amount was in as many days before; None where there is none."""
        return None

    def rows_sql(self) -> str:
        """The boolean SQL expression that keeps this question's rows of the training relation."""
        return "true"

    def active_within(self, settings_days: int) -> int | None:
        """Days before the date in which a user must have been active to be decided on.

        Args:
            settings_days: the setting ``active_days``.

        Returns:
            None where everybody with features is eligible.
        """
        return None

    def about_sql(self, features: str) -> str | None:
        """The boolean SQL expression of the users that it is about, beside who was active.

        Args:
            features: alias of ``user_features``, as of the date.

        Returns:
            None where it is about everybody with features.
        """
        return None

    def about(self) -> str:
        """What those users are, as in ``has registered 4 days before``; empty where all are."""
        return ""

    @property
    def returns(self) -> Returns:
        """What its campaigns count as a return, where their ``effect`` says nothing."""
        return Returns()

    def question(self) -> str:
        """What it asks, in one sentence."""
        return f"{self.words.asks[:1].upper()}{self.words.asks[1:]}?"

    def narrowed(self) -> str:
        """What narrows its rows down, as an error about them says it; empty where nothing does."""
        return ""

    def without_rows(self) -> str:
        """What to do where there are no rows at all."""
        return "land the behavior of the days before and after them, or change the training dates"

    def more_days(self) -> str:
        """What to do where too few days hold rows."""
        return "start earlier, land more history, or take snapshots more often (every_days)"

    def baseline_scores(
        self, spec: "FeatureSpec", rows: "Slice"
    ) -> "dict[str, NDArray[np.float64]]":
        """Scores of some rows, shape (n,), by the name of what anyone could do without a model.

        Those of :attr:`ranking_only` only rank.
        """
        return {}


class _OwnBlock(Block):
    """The block of a question whose keys are the question's own fields."""

    problem: ClassVar[type[Problem]]

    @property
    def returns(self) -> Returns:
        return self.problem.model_validate(self.model_dump(exclude={"kind"})).returns
