"""What differs by the kind of answer: candidates, figures, rule, gates, files and card."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    from usergrowth_dagster.learning.artifacts import LoadedModel
    from usergrowth_dagster.learning.gates import Gate
    from usergrowth_dagster.learning.origin import MadeFrom, Progress, Trained
    from usergrowth_dagster.learning.recording import SavedModel
    from usergrowth_dagster.warehouse.engine import Engine

T = TypeVar("T", bound="Trained")


@dataclass(frozen=True)
class Before:
    """The version that scores now: its model and its summary."""

    model: "LoadedModel"
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Figures for people: a header, and rows of as many cells."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


class Target(ABC, Generic[T]):
    """A kind of answer.

    Attributes:
        name: what a question names it by.
        amounts: whether a score is an amount rather than a probability.
        compares: whether a new version is held against the one that scores now.
        required: whether a campaign that asks cannot be decided without an answer.
        levels: whether scores have a level that newer labels may move.
        contributes: whether a score is a sum of parts of the features.
        learners: what it learns with, for the description of an asset.
    """

    name: ClassVar[str]
    amounts: ClassVar[bool] = False
    compares: ClassVar[bool] = True
    required: ClassVar[bool] = True
    levels: ClassVar[bool] = False
    contributes: ClassVar[bool] = False
    learners: ClassVar[str]

    @abstractmethod
    def train(
        self,
        engine: "Engine",
        relation: str,
        config: TrainingConfig,
        execution_date: date,
        settings: Settings,
        *,
        made_from: "MadeFrom",
        progress: "Progress",
    ) -> T:
        """Fit, choose and evaluate the candidates on the rows of a relation; nothing is written.

        Raises:
            UserError: too little to learn from; the sentence says what to change.
        """

    @abstractmethod
    def judge(
        self,
        engine: "Engine",
        relation: str,
        trained: T,
        settings: Settings,
        *,
        serving: Mapping[str, str] | None,
        before: Before | None,
    ) -> "list[Gate]":
        """What a new version passes and fails.

        Args:
            engine: holds the relation.
            relation: the training relation.
            trained: what :meth:`train` returned.
            settings: the gates' bounds.
            serving: column → SQL type of the tables that people are scored from, if known.
            before: the version that scores now, if there is one.
        """

    @abstractmethod
    def summarize(self, trained: T, gates: "list[Gate]") -> dict[str, Any]:
        """What a training found out, as JSON-ready values."""

    @abstractmethod
    def saved(self, trained: T) -> "SavedModel":
        """The chosen model with the files beside it."""

    @abstractmethod
    def chosen(self, trained: T) -> str:
        """The scorer whose figures stand for the version."""

    @abstractmethod
    def card(self, summary: Mapping[str, Any]) -> str:
        """The model card, markdown, written from the summary alone."""

    @abstractmethod
    def headline(self, summary: Mapping[str, Any], status: str) -> str:
        """The card in short, markdown, for a version's description."""

    def params(self, trained: T) -> dict[str, str]:
        """Parameters of the run beside those of the configuration."""
        return {}

    def tables(self, summary: Mapping[str, Any]) -> dict[str, Table]:
        """Further tables for people, by title."""
        return {}
