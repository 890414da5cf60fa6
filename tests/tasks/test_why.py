"""Why somebody got a message, or nothing: the sentence at the top is the truth, and names nobody."""

import contextlib
import json
import re
import sqlite3
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from chain_world import PHONE, D, World, cli, copy_home, errors, output, rows, succeeded

from usergrowth_dagster.audience.eligibility import OUTCOMES
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.explain.story import Story, task_sentence
from usergrowth_dagster.explain.why import why
from usergrowth_dagster.messaging.gateways.protocol import Found, Receipt
from usergrowth_dagster.messaging.people.person import Contact
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy import suppression
from usergrowth_dagster.messaging.receiving.receipts import take_receipts
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings

ZONE = ZoneInfo("Asia/Shanghai")
NOON = datetime(2017, 5, 4, 4, tzinfo=UTC)
HELD = Contact(
    suppressed=[
        {"created_time": NOON, "reason": "reply", "scope": "*", "channel": "*", "source": "file"}
    ]
)


def sql(home: Path, statement: str, *values: Any) -> list[Any]:
    with contextlib.closing(sqlite3.connect(home / "control.db")) as connection, connection:
        return connection.execute(statement, values).fetchall()


def chosen(home: Path, task: str = "care") -> list[str]:
    return [line.split(",")[0] for line in output(home, task).decode().splitlines()]


def story(outcome: str | None = None, **message: Any) -> Story:
    """A story with one decision, or with one message."""
    made = Story("t", "c", D, "success", rows=[1])
    if outcome is not None:
        made.decisions = [{"outcome": outcome, "score": 0.25}]
    if message:
        made.messages = [
            {
                **dict.fromkeys(("reason", "error_code", "not_before", "verdict", "final_time")),
                **dict.fromkeys(("occurrence_reason",)),
                **{"paused": False, "occurrence_state": OccurrenceState.SENDING},
                **{"due": NOON, "send_by": NOON + timedelta(days=1)},
                **{"updated_time": NOON, "sent_time": None},
                **message,
            }
        ]
    return made


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_has_words(outcome: str) -> None:
    """An outcome is described by its code, or as if a message had been sent."""
    sentence = task_sentence(story(outcome), Contact(), ZONE)
    assert outcome not in sentence or outcome in ("duplicate", "selected", "suppressed")
    starts = {"selected": "was selected, but no", "explored": "was chosen at random"}
    assert sentence.startswith(starts.get(outcome, "got nothing: "))
    assert "_" not in sentence


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ({"state": "delivered", "sent_time": NOON, "final_time": NOON}, "got the message: sent 2017-05-04 12:00"),
        ({"state": "accepted", "sent_time": NOON}, "has not reported since"),
        ({"state": "in_doubt", "sent_time": NOON, "reason": "worker_lost"}, "may have got the message"),
        ({"state": "undelivered", "sent_time": NOON, "error_code": "30005"}, "got nothing: .* could not deliver it \\(30005\\)"),
        ({"state": "rejected", "error_code": "X"}, "got nothing: the provider refused the message \\(X\\)"),
        ({"state": "skipped", "reason": "suppressed"}, "got nothing: suppressed since 2017-05-04 12:00 \\+08:00 by reply"),
        ({"state": "skipped", "reason": "number_cap"}, "got nothing: the provider's limit"),
        ({"state": "expired", "reason": "send_by_passed"}, "got nothing: the deadline passed"),
        ({"state": "expired", "sent_time": NOON}, "the provider never reported"),
        ({"state": "submitting"}, "is being sent"),
        ({"state": "planned"}, "has got nothing yet: the message is planned for 2017-05-04 12:00"),
        ({"state": "planned", "paused": True}, "the campaign is paused"),
        ({"state": "planned", "occurrence_state": OccurrenceState.STOPPED, "occurrence_reason": "no money"}, "stopped: no money"),
        ({"state": "planned", "verdict": {"reason": "suppressed", "wait_until": None}}, "gets nothing: suppressed since"),
        ({"state": "planned", "verdict": {"reason": "quiet_hours", "wait_until": NOON}}, "waits until 2017-05-04 12:00 \\+08:00 \\(quiet hours\\)"),
    ],
)  # fmt: skip
def test_every_state_has_words(message: dict[str, Any], wanted: str) -> None:
    """A state of the ledger is described as its opposite."""
    message["state"] = MessageState(message["state"])
    assert re.search(wanted, task_sentence(story("selected", **message), HELD, ZONE))


def test_earlier_messages_are_described() -> None:
    """Somebody who got two of three messages is said to have got nothing."""
    skipped = story("selected", state=MessageState.SKIPPED, reason="capped")
    sent = {**skipped.messages[0], "state": MessageState.ACCEPTED, "sent_time": NOON}
    skipped.messages = [sent, sent, *skipped.messages]
    sentence = task_sentence(skipped, Contact(), ZONE)
    assert sentence.startswith(
        "was sent 2 earlier messages of this campaign; of the newest: got nothing"
    )


def test_whole_stories(world: World, tmp_path: Path) -> None:
    """The reason at the top is not the one that the person was left out for, or shows a number."""
    home = copy_home(world.decided, tmp_path / "home")
    project = Project(load_settings(home))
    vault = open_vault(home)
    both = set(chosen(home)) & set(chosen(home, "comeback"))
    user = sorted(both)[0]
    answer = why(project, user, campaign="care")
    assert answer.sentence.startswith(f"{user} was sent the message 2017-05-04 10:00")
    assert (len(answer.tasks), answer.elsewhere) == (1, 0)
    (task,) = answer.tasks
    assert task.features
    assert task.decisions[0]["rank"] <= 40
    assert task.messages[0]["gateway"] == "file"
    assert len(why(project, user).contact.counted) == 2
    for outcome, words in (
        ("holdout", "got nothing: held out as control"),
        ("not_in_top_n", "got nothing: others rank higher"),
        ("not_active", "got nothing: was silent already"),
    ):
        ((name,), *_) = rows(
            home, "decisions", f"task_id = 'care' and outcome = '{outcome}'", "user_id"
        )
        assert why(project, name, campaign="care").sentence.startswith(f"{name} {words}"), outcome
    with pytest.raises(UserError, match="no user is called 'nobody'"):
        why(project, "nobody")
    before = Project(load_settings(copy_home(world.landed, tmp_path / "before")))
    assert why(before, user).sentence == f"{user} got nothing: there is no task yet"

    # a message that is held, and then a reply that refuses
    sql(
        home,
        "update message set state = 'planned', sent_time = null where user_hash = ?",
        vault.user_digest(user),
    )
    sql(home, "update occurrence set state = 'sending'")
    assert "planned for 2017-05-04 08:00" in why(project, user).sentence
    phone = rows(home, "population", f"user_id = '{user}'", "phone")[0][0]
    suppression.suppress(project.store, vault, phone=phone, reason="reply", source="file", now=NOON)
    after = why(project, user)
    assert (
        f"{user} gets nothing: suppressed since 2017-05-04 12:00 +08:00 by reply" in after.sentence
    )
    other = sorted(both)[1]
    ((row,), *_) = sql(home, "select id from message where user_hash = ?", vault.user_digest(other))
    report = Receipt(status=Found.DELIVERED, out_id=str(row), code="OK", time=NOON)
    take_receipts(project.store, vault, "file", [report], NOON)
    task_id = sql(
        home,
        "select task_id from occurrence o join message m on m.occurrence_id = o.id where m.id = ?",
        row,
    )[0][0]
    delivered = why(project, other, campaign=task_id)
    assert "sent 2017-05-04 10:00 +08:00, delivered 2017-05-04 12:00 +08:00" in delivered.sentence
    assert delivered.tasks[0].messages[0]["receipts"][0]["status"] == "delivered"


def test_the_command(world: World, tmp_path: Path) -> None:
    """A page or its JSON shows a number, or a wrong name is a traceback."""
    home = copy_home(world.decided, tmp_path / "home")
    user = chosen(home)[0]
    page = succeeded(cli(home, "why", user))
    text = succeeded(cli(home, "why", user, "--json", "--date", str(D)))
    for printed in (page, text):  # thirteen digits of a fraction or a message's id are no phone
        assert not PHONE.findall(re.sub(r'\b\d+\.\d+|"id": \d+', "", printed).encode())
        assert "+999********" in printed
    assert json.loads(text)["sentence"] in page
    assert "no user is called 'nosuchuser'" in errors(cli(home, "why", "nosuchuser"))[0]
    assert errors(cli(home, "why", user, "--campaign", "no")) == [
        "error: no task belongs to a campaign 'no'; campaigns with tasks: care, comeback"
    ]
    assert (
        "dates with tasks: 2017-05-04" in errors(cli(home, "why", user, "--date", "2017-05-05"))[0]
    )
    assert "no entries" in succeeded(cli(home, "audit", "--since", "2030-01-01"))
    succeeded(cli(home, "rotate-key"))
    assert "rotate-key" in succeeded(cli(home, "audit"))
    assert succeeded(cli(home, "why", user)) == page
    assert date.fromisoformat(json.loads(text)["tasks"][0]["execution_date"]) == D
