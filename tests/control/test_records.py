"""Control records: migrations, apply, tasks, review, guarded statuses; on SQLite and PostgreSQL."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control import store as store_module
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import CampaignSpec, parse_campaign
from usergrowth_dagster.control.codes import (
    GroupStatus,
    JobStatus,
    Kind,
    OccurrenceState,
    TemplateType,
)
from usergrowth_dagster.control.jobs import (
    task_failed,
    task_running,
    task_succeeded,
    training_failure,
    training_moved,
)
from usergrowth_dagster.control.review import reopen, review, reviews
from usergrowth_dagster.control.store import HEAD, ControlStore, utc_now
from usergrowth_dagster.control.tasks import (
    TaskFailure,
    campaigns,
    campaigns_for_upload,
    listed_tasks,
    register_task,
    task,
    tasks_for,
)
from usergrowth_dagster.error_codes import CODES
from usergrowth_dagster.errors import UserError

D = date(2017, 12, 28)
YAML = """\
name: december
algorithm: churn
training: {window_days: 180}
population: population/december-2017
execution_date: 2017-12-28
selection: {threshold: 0.12}
signature: {name: 示例商店}
template: {name: december offer, content: "亲爱的${name}，新年好。拒收请回复R"}
schedule: {name: december send, execute_time: 2017-12-28 10:30:00}
"""
ON_UPLOAD = YAML.replace("december-2017", "december-*").replace("2017-12-28\ns", "on upload\ns")


@pytest.fixture
def store(database_url: str) -> Iterator[ControlStore]:
    opened = ControlStore(database_url, zone=ZoneInfo("Asia/Shanghai"))
    opened.migrate()
    yield opened
    opened.close()


def spec(text: str = YAML, **changes: str) -> CampaignSpec:
    for old, new in changes.items():
        text = text.replace(old, new)
    return parse_campaign(text)


def count(store: ControlStore, table: object) -> int:
    with store.read() as connection:
        return int(connection.scalar(select(func.count()).select_from(table)) or 0)  # type: ignore[arg-type]


def test_migrations_make_the_declared_tables(store: ControlStore) -> None:
    """Guards against a column declared in the schema that no migration creates."""
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
    folder = Path(store_module.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == HEAD == store.revision()


def test_processes_that_start_at_once_migrate_once(database_url: str) -> None:
    """Guards against two first starts that both create the tables."""
    code = (
        "import sys; from usergrowth_dagster.control.store import ControlStore; "
        "s = ControlStore(sys.argv[1]); sys.stdin.read(); s.migrate(); print(s.revision())"
    )
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", code, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for start in starts:
        assert start.stdin
        start.stdin.close()
        start.stdin = None
    for start in starts:
        output, errors = start.communicate(timeout=60)
        assert (start.returncode, output.strip()) == (0, HEAD), errors


def test_newer_database_is_refused(store: ControlStore) -> None:
    """Guards against an old program that writes into tables it does not know."""
    with store.write() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    with pytest.raises(UserError, match="newer version of the product"):
        store.migrate()


def test_message_ids_of_two_databases_differ(tmp_path: Path) -> None:
    """Guards against an OutId that a look-up at the provider finds from an earlier database."""
    starts = set()
    for name in ("a", "b"):
        opened = ControlStore(f"sqlite:///{tmp_path / name}.db")
        opened.migrate()
        with opened.read() as connection:
            starts.add(
                connection.exec_driver_sql(
                    "select seq from sqlite_sequence where name = 'message'"
                ).scalar()
            )
    assert len(starts) == 2
    assert all(2**31 <= start < 2**53 for start in starts)


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "sqlite://", "sqlite:///:memory:"])
def test_unusable_database_url(url: str) -> None:
    """Guards against a traceback, or a ledger that forgets, for a wrong database URL."""
    with pytest.raises(UserError, match="USERGROWTH_DATABASE_URL"):
        ControlStore(url)


def test_applying_twice_changes_nothing(store: ControlStore) -> None:
    """Guards against duplicate records, and reviews lost, when a file is applied again."""
    first = apply_campaign(store, spec(), "ann")
    assert first.task_id == "december-2017"
    assert len(first.created) == 6
    review(store, "template", "december offer", True, None, "bob")
    events = count(store, schema.history)
    again = apply_campaign(store, spec(), "ann")
    assert again.unchanged
    assert str(again) == "campaign 'december': nothing has changed"
    assert str(first).startswith("campaign 'december': created campaign 'december', signature")
    assert not again.notes
    assert count(store, schema.history) == events
    assert campaigns(store) == {"december": spec()}
    with store.read() as connection:
        row = connection.execute(select(schema.schedule)).mappings().one()
        assert row["execute_time"] == datetime(2017, 12, 28, 2, 30, tzinfo=UTC)
        content = connection.execute(select(schema.template)).mappings().one()
        assert content["type"] is TemplateType.PROMOTION
        assert content["template_code"] == "UG_000001"


def test_template_code_of_the_provider(store: ControlStore) -> None:
    """Guards against a provider that gets a code which it never gave, and one code for two."""
    text = YAML.replace("template: {name", "template: {code: SMS_123456, name")
    apply_campaign(store, parse_campaign(YAML), "ann")
    applied = apply_campaign(store, parse_campaign(text), "ann")
    assert any("must be reviewed again" in note for note in applied.notes)
    with store.read() as connection:
        assert connection.scalar(select(schema.template.c.template_code)) == "SMS_123456"
    other = text.replace("december", "january").replace("2017-12-28", "2018-01-28")
    with pytest.raises(UserError, match=r"template\.code: SMS_123456 .* 'december offer'"):
        apply_campaign(store, parse_campaign(other), "ann")


def test_changed_text_is_reviewed_again(store: ControlStore) -> None:
    """Guards against a text that goes out although nobody approved it."""
    apply_campaign(store, spec(), "ann")
    review(store, "signature", "示例商店", True, None, "bob")
    review(store, "template", "december offer", True, None, "bob")
    applied = apply_campaign(store, spec(新年好="圣诞好"), "ann")
    assert any("template 'december offer': content" in text for text in applied.changed)
    assert [r.status.name for r in reviews(store, "december")] == ["APPROVED", "REVIEWING"]
    with store.read() as connection:
        template_id = connection.scalar(select(schema.template.c.id))
    events = store.history(Kind.TEMPLATE, template_id or 0)
    assert [(e.actor, e.target) for e in events] == [
        ("ann", "reviewing"),
        ("bob", "approved"),
        ("ann", None),
        ("ann", "reviewing"),
    ]
    assert all(e.time.tzinfo is UTC for e in events)


def test_changed_subject_is_reviewed_again(store: ControlStore) -> None:
    """Guards against an e-mail whose subject says what nobody approved."""
    text = YAML.replace("schedule:", "channel: email\nschedule:")
    text = text.replace("template: {name", "template: {subject: 新年, name")
    apply_campaign(store, parse_campaign(text), "ann")
    review(store, "template", "december offer", True, None, "bob")
    applied = apply_campaign(
        store, parse_campaign(text.replace("subject: 新年", "subject: 中奖")), "ann"
    )
    assert any("template 'december offer': subject" in text for text in applied.changed)
    assert reviews(store, "december")[1].status.name == "REVIEWING"


def test_campaigns_do_not_take_each_others_records(store: ControlStore) -> None:
    """Guards against two files that undo each other's text, schedule or task at each apply."""
    apply_campaign(store, spec(), "ann")
    other = {"name: december\n": "name: other\n"}
    with pytest.raises(UserError, match=r"schedule\.name: schedule 'december send' belongs to"):
        apply_campaign(store, spec(**other), "ann")
    other["december send"] = "other send"
    with pytest.raises(UserError, match=r"template\.name: template 'december offer' is used by"):
        apply_campaign(store, spec(**other, 新年好="早"), "ann")
    with pytest.raises(UserError, match="task 'december-2017' belongs to campaign 'december'"):
        apply_campaign(store, spec(**other), "ann")
    assert list(campaigns(store)) == ["december"]  # each refusal left nothing behind


def test_review_is_guarded(store: ControlStore) -> None:
    """Guards against approving what was rejected, or rejecting without saying why."""
    apply_campaign(store, spec(), "ann")
    with pytest.raises(UserError, match="needs a reason"):
        review(store, "template", "december offer", False, " ", "bob")
    with pytest.raises(UserError, match="no template is called 'x'; there are: december offer"):
        review(store, "template", "x", True, None, "bob")
    with pytest.raises(UserError, match="not a schedule"):
        review(store, "schedule", "december send", True, None, "bob")
    review(store, "template", "december offer", False, "no price", "bob")
    with pytest.raises(UserError, match=r"is rejected and cannot become approved; .* --reopen"):
        review(store, "template", "december offer", True, None, "bob")
    assert reviews(store, "december")[1].reason == "no price"
    reopen(store, "template", "december offer", "the price is in it", "bob")
    review(store, "template", "december offer", True, None, "bob")
    again = reviews(store, "december")[1]
    assert (again.status.name, again.reason) == ("APPROVED", None)


def test_task_life(store: ControlStore) -> None:
    """Guards against a task that jumps states, and groups that stay 'checking' for ever."""
    apply_campaign(store, spec(), "ann")
    assert [t.task_id for t in tasks_for(store, D)] == ["december-2017"]
    with pytest.raises(UserError, match="is queued and cannot become success"):
        task_succeeded(store, "december-2017", population=10, selected=3)
    task_running(store, "december-2017")
    task_running(store, "december-2017", note="started again after a crash")
    task_failed(store, "december-2017", UserError("a file was bad", code="landing.bad_file"))
    task_running(store, "december-2017")
    task_succeeded(store, "december-2017", population=10, selected=3)
    assert task(store, "december-2017").status is JobStatus.SUCCESS
    with store.read() as connection:
        groups = connection.execute(
            select(schema.group.c.name, schema.group.c.amount, schema.group.c.status)
        ).all()
        job_id = connection.scalar(select(schema.inference_job.c.id))
    assert sorted(groups) == [
        ("december-2017 population", 10, GroupStatus.PASSED),
        ("december-2017 selected", 3, GroupStatus.PASSED),
    ]
    notes = [(e.target, e.note) for e in store.history(Kind.INFERENCE_JOB, job_id or 0)]
    assert ("failed", "a file was bad") in notes
    training_moved(store, "december", JobStatus.RUNNING)
    training_moved(store, "december", JobStatus.SUCCESS, has_model_info=True)
    with pytest.raises(UserError, match="no task is called 'x'"):
        task_running(store, "x")


def test_a_failed_task_keeps_the_code_and_hint_of_its_error(store: ControlStore) -> None:
    """Guards against a console that must match on an English sentence to learn why a task failed."""
    apply_campaign(store, spec(), "ann")

    def failure() -> TaskFailure | None:
        (listed,) = listed_tasks(store)
        return listed.failure

    assert failure() is None
    task_running(store, "december-2017")
    task_failed(
        store, "december-2017", UserError("no file", code="population.invalid", hint="copy it")
    )
    assert failure() == TaskFailure("no file", "population.invalid", "copy it")
    task_running(store, "december-2017")
    assert failure() is None  # it is being tried again
    task_failed(store, "december-2017", UserError("no model", code="model.none_usable"))
    assert failure() == TaskFailure(
        "no model", "model.none_usable", CODES["model.none_usable"].hint
    )
    with store.read() as connection:
        job_id = connection.scalar(select(schema.inference_job.c.id)) or 0
    history = store.history(Kind.INFERENCE_JOB, job_id)
    assert [(e.target, e.code) for e in history] == [
        ("queued", None),
        ("running", None),
        ("failed", "population.invalid"),
        ("running", None),
        ("failed", "model.none_usable"),
    ]


def test_a_failed_training_keeps_the_code_of_its_error(store: ControlStore) -> None:
    """Guards against a training job whose failure only its sentence describes."""
    apply_campaign(store, spec(), "ann")
    error = UserError("too few days", code="training.insufficient")
    training_moved(store, "december", JobStatus.RUNNING)
    training_moved(store, "december", JobStatus.FAILED, note=str(error), error=error)
    with store.read() as connection:
        job_id = connection.scalar(select(schema.training_job.c.id)) or 0
    last = store.history(Kind.TRAINING_JOB, job_id)[-1]
    assert (last.note, last.code, last.hint) == ("too few days", error.code, error.hint)
    assert training_failure(store, "december") == "too few days"


def test_a_failure_of_a_home_from_before_has_its_sentence(store: ControlStore) -> None:
    """Guards against an upgrade that loses why a task failed, or invents a code for it."""
    apply_campaign(store, spec(), "ann")
    task_running(store, "december-2017")
    task_failed(store, "december-2017", UserError("a file was bad", code="population.invalid"))
    with store.write() as connection:  # as migration 0005 left it
        connection.exec_driver_sql("alter table history drop column code")
        connection.exec_driver_sql("alter table history drop column hint")
        connection.exec_driver_sql("drop index ix_message_occurrence_id_user_id")
        for later in ("person_key", "click", "export_error", "export_run"):
            connection.exec_driver_sql(f"drop table {later}")
        for table, column in (
            ("template", "link"),
            ("occurrence", "link"),
            ("occurrence", "link_domain"),
            ("occurrence", "other_price"),
        ):
            connection.exec_driver_sql(f"alter table {table} drop column {column}")
        connection.exec_driver_sql("update alembic_version set version_num = '0005'")
    store.migrate()
    assert store.revision() == HEAD
    assert [one.failure for one in listed_tasks(store)] == [
        TaskFailure("a file was bad", None, None)
    ]
    task_running(store, "december-2017")
    task_failed(store, "december-2017", UserError("still bad", code="population.invalid"))
    (listed,) = listed_tasks(store)
    assert listed.failure is not None and listed.failure.code == "population.invalid"


def test_uploads_become_tasks(store: ControlStore) -> None:
    """Guards against an upload that registers twice, or under a campaign it does not fit."""
    assert apply_campaign(store, spec(ON_UPLOAD), "ann").task_id is None
    assert campaigns_for_upload(store, "population/december-b") == ["december"]
    assert campaigns_for_upload(store, "population/january") == []
    made = register_task(store, "december", "december-b", D, "sensor")
    assert made == register_task(store, "december", "december-b", D, "sensor")
    assert (made.population, made.output) == (
        "population/december-b",
        "population_output/december-b",
    )
    assert count(store, schema.group) == 2
    for bad, sentence in (("january", "does not fit"), ("../x", "cannot name a task")):
        with pytest.raises(UserError, match=sentence):
            register_task(store, "december", bad, D, "sensor")
    with pytest.raises(UserError, match="no campaign is called"):
        register_task(store, "x", "december-b", D, "sensor")
    moved = register_task(store, "december", "december-b", date(2017, 12, 29), "sensor")
    assert moved.execution_date == date(2017, 12, 29)
    assert tasks_for(store, D) == []


def test_planned_task_is_frozen(store: ControlStore) -> None:
    """Guards against settings that change under a decision that is already on its way out."""
    apply_campaign(store, spec(), "ann")
    changed = apply_campaign(store, spec(**{"0.12": "0.2"}), "ann").changed
    assert changed == ["campaign 'december': selection.threshold"]
    assert task(store, "december-2017").spec.selection.threshold == 0.2
    now = utc_now()
    with store.write() as connection:
        schedule_id = connection.scalar(select(schema.schedule.c.id))
        connection.execute(
            schema.occurrence.insert().values(
                schedule_id=schedule_id,
                name="x",
                task_id="december-2017",
                channel="sms",
                state=OccurrenceState.PLANNING,
                due=now,
                send_by=now,
                signature="s",
                template_code="c",
                template_type=TemplateType.PROMOTION,
                content="t",
                price=0.1,
                currency="CNY",
                created_time=now,
                updated_time=now,
            )
        )
    applied = apply_campaign(store, spec(**{"0.12": "0.3"}), "ann")
    assert any("keeps its earlier settings" in note for note in applied.notes)
    frozen = task(store, "december-2017")
    assert (frozen.frozen, frozen.spec.selection.threshold) == (True, 0.2)
    with pytest.raises(UserError, match="cannot move to 2017-12-29"):
        register_task(store, "december", "december-2017", date(2017, 12, 29), "ann")


def test_mistyped_population_leaves_no_task_behind(store: ControlStore) -> None:
    """Guards against a task for a folder that never existed, failing every run of its date."""
    apply_campaign(store, spec(**{"december-2017": "decmber-2017"}), "ann")
    applied = apply_campaign(store, spec(), "ann")
    assert any("'decmber-2017': removed" in text for text in applied.changed)
    assert [t.task_id for t in tasks_for(store, D)] == ["december-2017"]


def test_training_beyond_the_execution_date_is_noted(store: ControlStore) -> None:
    """Guards against refusing, or silently using, the vendor's example that ends after its date."""
    window = "{start_date: 20170101, end_date: 20180108}"
    applied = apply_campaign(store, spec(**{"{window_days: 180}": window}), "ann")
    assert applied.notes == [
        "training.end_date 2018-01-08 is after the execution date and is clamped to 2017-12-28"
    ]
