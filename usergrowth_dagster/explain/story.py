"""What became of a person in the tasks that had them: the answer to why, as values."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from usergrowth_dagster.messaging.people.person import Contact

Reply = Literal["yes", "no", "not asked"]


@dataclass(frozen=True)
class Step:
    """One question and its answer; ``not asked``: an earlier answer settled it."""

    question: str
    answer: Reply
    detail: str = ""


@dataclass(frozen=True)
class Cut:
    """Where a task's choice ended: the rank of the last one chosen, and that one's score."""

    rank: int | None
    score: float | None


@dataclass
class Story:
    """What became of a person in one task.

    Attributes:
        rows: numbers of the person's rows of the population.
        features: whether the user had any.
        decisions: the rows of the decision, the one that counts first.
        messages: rows of the ledger, oldest first.
        sentence: how it ended.
        eligible: whether the first decision could have been to text the user at all.
        steps: all that the first decision asked.
        mattered: the features that moved its score.
        mattered_note: why none are listed.
        outcome: what came after it, as far as it is measured.
        stays: whether a return means that an active user did not fall silent (churn).
    """

    task_id: str
    campaign: str
    execution_date: date
    status: str
    rows: list[int] = field(default_factory=list)
    features: bool | None = None
    decisions: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    sentence: str = ""
    eligible: bool | None = None
    steps: list[Step] = field(default_factory=list)
    mattered: list[dict[str, Any]] = field(default_factory=list)
    mattered_note: str = ""
    outcome: dict[str, Any] | None = None
    stays: bool = False


@dataclass
class Why:
    """A person's whole story; ``sentence`` is the answer, ``tasks`` come newest first.

    ``elsewhere`` counts the tasks asked for that do not have the person in their population.
    """

    user_id: str
    sentence: str
    forgotten: datetime | None
    tasks: list[Story]
    elsewhere: int
    contact: Contact
