"""Failures alike: when nearly every message of an occurrence fails with one cause, it is stopped.

For each occurrence, stage (submissions, reports) and cause there is a score in the database, which
all dispatchers and receivers share. A failure adds one to it, and a success of the same stage takes
nine away, never below zero: it grows only while more than nine of ten fail. At the setting
``stop_after_failures`` the occurrence is stopped.

Causes that belong to each person (a bad number, a refusal) count only towards the score of failures
for whatever cause, which takes ten times as many. So does what comes when an occurrence has many
causes already, such as codes that differ by message.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.dispatching.alerts import post
from usergrowth_dagster.messaging.gateways.registry import is_personal
from usergrowth_dagster.settings import Settings

ANY = ""
"""The cause of the score for whatever cause."""
TIMES_FOR_ANY = 10
_TAKEN_AWAY = 9
_MOST_CAUSES = 20
failure_score = schema.failure_score
occurrence = schema.occurrence


class Stage(StrEnum):
    """Where a provider says no: in its answer, or in a delivery report."""

    SUBMISSION = "submission"
    REPORT = "report"


@dataclass
class Tally:
    """Outcomes that are not counted in the database yet."""

    successes: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def most(self) -> int:
        """Failures with the most frequent cause."""
        return max(self.failures.values(), default=0)


class Outcomes:
    """Outcomes by occurrence and stage, on their way to the database."""

    def __init__(self) -> None:
        self.tallies: defaultdict[tuple[int, Stage], Tally] = defaultdict(Tally)

    def add(
        self,
        occurrence_id: int,
        stage: Stage,
        state: MessageState,
        cause: str | None,
        number: int = 1,
    ) -> None:
        """Note how messages ended; states that say neither yes nor no do not count."""
        tally = self.tallies[occurrence_id, stage]
        if state is _GOOD[stage]:
            tally.successes += number
        elif state in _BAD[stage] or cause == "contrary_answers":
            tally.failures[cause or str(state)] += number

    def count(self, store: ControlStore) -> None:
        """Add everything to the scores; a transaction of its own for each occurrence and stage, so
        that nothing else is locked meanwhile."""
        tallies, self.tallies = self.tallies, defaultdict(Tally)
        for (occurrence_id, stage), tally in sorted(tallies.items()):
            if tally.failures or _has_scores(store, occurrence_id):
                with store.write() as connection:
                    _count(connection, occurrence_id, stage, tally)


_GOOD = {Stage.SUBMISSION: MessageState.ACCEPTED, Stage.REPORT: MessageState.DELIVERED}
_BAD = {
    Stage.SUBMISSION: (MessageState.REJECTED,),
    Stage.REPORT: (MessageState.UNDELIVERED, MessageState.REJECTED),
}


def _has_scores(store: ControlStore, occurrence_id: int) -> bool:
    query = select(failure_score.c.score).where(
        failure_score.c.occurrence_id == occurrence_id, failure_score.c.score > 0
    )
    with store.read() as connection:
        return connection.scalar(query.limit(1)) is not None


def _count(connection: Connection, occurrence_id: int, stage: Stage, tally: Tally) -> None:
    # The occurrence first, as resuming a campaign does: a new score needs its key, so that two
    # transactions that lock in contrary orders would wait for one another.
    connection.execute(
        select(occurrence.c.id)
        .where(occurrence.c.id == occurrence_id)
        .with_for_update(read=True, key_share=True)
    )
    mine = (failure_score.c.occurrence_id == occurrence_id, failure_score.c.stage == str(stage))
    scores = dict(
        connection.execute(
            select(failure_score.c.cause, failure_score.c.score)
            .where(*mine)
            .order_by(failure_score.c.cause)
            .with_for_update()
        )
        .tuples()
        .all()
    )
    added = Counter({cause: n for cause, n in tally.failures.items() if not is_personal(cause)})
    room = _MOST_CAUSES - len(scores)
    known = {cause: n for cause, n in added.items() if cause in scores}
    fresh = {cause: n for cause, n in added.most_common() if cause not in scores}
    added = Counter(known | dict(list(fresh.items())[: max(room, 0)]))
    added[ANY] = tally.failures.total()
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    clock = utc_now()
    for cause in sorted(scores.keys() | added.keys()):
        score = max(scores.get(cause, 0) + added[cause] - _TAKEN_AWAY * tally.successes, 0)
        if score == scores.get(cause) and not added[cause]:
            continue
        if cause in scores:
            connection.execute(
                failure_score.update()
                .where(*mine, failure_score.c.cause == cause)
                .values(
                    score=score,
                    failures=failure_score.c.failures + added[cause],
                    updated_time=clock,
                )
            )
        elif added[cause]:
            row = insert(failure_score).values(
                occurrence_id=occurrence_id,
                stage=str(stage),
                cause=cause,
                score=score,
                failures=added[cause],
                updated_time=clock,
            )
            again = {
                name: failure_score.c[name] + row.excluded[name] for name in ("score", "failures")
            }
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=["occurrence_id", "stage", "cause"], set_=again
                )
            )


@dataclass(frozen=True)
class Failing:
    """A cause with which nearly every message of an occurrence fails."""

    occurrence_id: int
    stage: Stage
    cause: str
    failures: int

    def __str__(self) -> str:
        """One sentence for a person."""
        how = "is rejected" if self.stage is Stage.SUBMISSION else "is reported as undelivered"
        cause = f"with {self.cause}" if self.cause != ANY else "for various causes"
        return (
            f"nearly every message {how} {cause} ({self.failures:,} so far); mend that at the "
            "provider, then let the campaign go on with usergrowth resume"
        )


def failing(store: ControlStore, settings: Settings, occurrence_id: int) -> Failing | None:
    """The cause for which an occurrence must stop, if there is one."""
    failures = _over_limits(store, settings, _OVER_HERE, {"occurrence": occurrence_id})
    return failures[0] if failures else None


_OVER = (
    select(
        failure_score.c.occurrence_id,
        failure_score.c.stage,
        failure_score.c.cause,
        failure_score.c.failures,
    )
    .where(
        failure_score.c.score >= bindparam("threshold"),
        (failure_score.c.cause != ANY) | (failure_score.c.score >= bindparam("threshold_of_any")),
    )
    .order_by(
        failure_score.c.occurrence_id, failure_score.c.score.desc(), failure_score.c.cause.desc()
    )
)
_OVER_HERE = _OVER.where(failure_score.c.occurrence_id == bindparam("occurrence"))
_OVER_IN_SILENCE = _OVER.where(
    failure_score.c.occurrence_id.in_(
        select(occurrence.c.id).where(occurrence.c.state == OccurrenceState.DONE)
    ),
    failure_score.c.alerted_time.is_(None),
)


def _over_limits(
    store: ControlStore, settings: Settings, query: Select[Any], values: Mapping[str, Any]
) -> list[Failing]:
    threshold = settings.stop_after_failures
    if not threshold:
        return []
    limits = {"threshold": threshold, "threshold_of_any": threshold * TIMES_FOR_ANY}
    with store.read() as connection:
        rows = connection.execute(query, {**values, **limits}).all()
    return [Failing(row[0], Stage(row[1]), row[2], row[3]) for row in rows]


def forget(connection: Connection, occurrence_id: int) -> None:
    """Count anew: a person has looked into it and lets the occurrence go on."""
    connection.execute(failure_score.delete().where(failure_score.c.occurrence_id == occurrence_id))


def report_failing(store: ControlStore, settings: Settings) -> list[str]:
    """Post to the failure webhook, once, which occurrences are sent already and fail in their
    reports: there is nothing left to stop, but somebody must know.

    Returns:
        A sentence for each that was not reported before.
    """
    fresh = []
    for one in _over_limits(store, settings, _OVER_IN_SILENCE, {}):
        with store.write() as connection:
            changed = connection.execute(
                failure_score.update()
                .where(
                    failure_score.c.occurrence_id == one.occurrence_id,
                    failure_score.c.alerted_time.is_(None),
                )
                .values(alerted_time=utc_now())
            ).rowcount
            if not changed:  # another cause of the same occurrence, or another dispatcher
                continue
            name = connection.execute(
                select(schema.schedule.c.name, occurrence.c.name)
                .join(occurrence, occurrence.c.schedule_id == schema.schedule.c.id)
                .where(occurrence.c.id == one.occurrence_id)
            ).one()
        fresh.append(f"{name[0]}: {name[1]}: {one}")
        post(settings, "campaign_failing", schedule=name[0], occurrence=name[1], message=str(one))
    return fresh
