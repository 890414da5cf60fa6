"""The contact policy through planning and dispatch, on SQLite and PostgreSQL."""

import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update
from support.contact_desk import NOON, Counting, Desk, hours, went_out
from support.phones import phone

from usergrowth_dagster.control import schema
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.policy.contact import contact_rules, screen
from usergrowth_dagster.messaging.policy.suppression import lift, suppress


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    made = Desk.at(tmp_path / "home", database_url)
    yield made
    made.store.close()


def send(desk: Desk, now: datetime, gateway: Counting | None = None) -> Counting:
    gateway = gateway or Counting()
    dispatch(desk.store, desk.settings, gateway, now)
    return gateway


def stop(desk: Desk, now: datetime, **who: str) -> None:
    suppress(desk.store, desk.vault, reason="by_hand", source="test", now=now, **who)  # type: ignore[arg-type]


PEOPLE = [("a", phone(1)), ("b", phone(2)), ("c", phone(1)), ("d", phone(4)), ("e", phone(5))]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["one", "two", "three", "mail"]),
        st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=5, unique_by=lambda p: p[0]),
        st.integers(0, 40),
        st.booleans(),
    ),
    min_size=4,
    max_size=9,
)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(STEPS, st.integers(1, 2), st.integers(1, 2), st.sampled_from([0.0, 5.0]))
def test_nobody_gets_more_than_the_cap(
    steps: list[tuple[str, list[tuple[str, str]], int, bool]], cap: int, days: int, gap: float
) -> None:
    """Guards against a person texted too often by campaigns that do not know of each other.

    The people share phones, plans and dispatches come in any order, and every window of ``days``
    is counted in the end, by user and by phone.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = Desk.at(
            Path(folder) / "home",
            f"sqlite:///{folder}/c.db",
            cap_messages=cap,
            cap_days=days,
            min_gap_hours=gap,
            send_from="00:00",
            send_until="23:59",
        )
        for name in ("one", "two", "three"):
            made.campaign(name)
        made.campaign("mail", channel="email")
        now = NOON
        for name, people, wait, at_once in steps:
            mail = [(user, f"{user}@example.com") for user, _ in people]
            made.plan(name, mail if name == "mail" else people, now)
            if at_once:
                send(made, now)
            now += hours(wait)
            send(made, now)
        rows = went_out(made)
        for key in ("user_id", "phone_hash"):
            for row in rows:
                times = [o["sent_time"] for o in rows if o[key] == row[key]]
                window = [
                    t for t in times if timedelta(0) <= t - row["sent_time"] < timedelta(days)
                ]
                assert len(window) <= cap, (key, row["user_id"])
                gaps = [t - row["sent_time"] for t in times if t > row["sent_time"]]
                assert not gaps or min(gaps) >= hours(gap)
        made.store.close()


def test_two_dispatchers_do_not_pass_a_cap_together(desk: Desk) -> None:
    """Guards against two campaigns that each see the last free place under a person's cap."""
    people = [(f"u{n}", phone(n)) for n in range(60)]
    for name in ("one", "two"):
        desk.campaign(name, contact="cap_messages: 1")
        desk.plan(name, people if name == "one" else people[::-1])
    counting = Counting()
    threads = [threading.Thread(target=send, args=(desk, NOON, counting)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    send(desk, NOON, counting)
    assert Counter(user for user, _, _ in counting.sent) == {user: 1 for user, _ in people}
    reasons = Counter((state, reason) for _, state, reason in desk.states())
    assert reasons == {("accepted", None): 60, ("skipped", "capped"): 60}


def test_refusals_hold_at_planning_and_at_sending(desk: Desk) -> None:
    """Guards against a text to somebody who refused, before or after the plan was made."""
    desk.campaign("shop")
    desk.campaign("other", signature="Other")
    stop(desk, NOON, phone="00999 0000-000-001")  # another spelling of a number
    stop(desk, NOON, user_id="b")
    stop(desk, NOON, phone=phone(3), scope="Other")
    stop(desk, NOON, phone=phone(4), channel="email")
    people = [(name, phone(n)) for n, name in enumerate("abcdefg", 1)]
    assert desk.plan("shop", people).reasons == {"suppressed": 2}
    stop(desk, NOON, phone=phone(5), channel="*")
    stop(desk, NOON, user_id="f", scope="Shop")
    assert [user for user, *_ in send(desk, NOON).sent] == ["c", "d", "g"]
    assert {u for u, _, reason in desk.states() if reason == "suppressed"} == set("abef")
    lift(desk.store, desk.vault, phone=phone(1), now=NOON)
    assert desk.plan("other", people).reasons == {"suppressed": 3}  # b, c and e
    assert [user for user, *_ in send(desk, NOON).sent] == ["a", "d", "f", "g"]


def test_a_gap_and_the_providers_limit_are_waited_for(desk: Desk) -> None:
    """Guards against a person lost for a campaign because of a text two hours ago."""
    rules = desk.settings.model_copy(update={"number_cap": 2, "cap_messages": None})
    desk.settings = rules.model_copy(update={"send_within_hours": 48})
    for name in ("one", "two", "three"):
        desk.campaign(name, contact="min_gap_hours: 3")
    desk.campaign("code", kind="notification", contact="ignore_cap: true")
    ann = [("ann", phone(1))]
    for name in ("one", "two", "three", "code"):
        desk.plan(name, ann)
    sent = Counting()
    for hour in range(36):
        send(desk, NOON + hours(hour), sent)
    assert [schedule for _, _, schedule in sent.sent] == ["one", "code", "two", "three"]
    times = [(row["sent_time"] - NOON) / hours(1) for row in went_out(desk)]
    # 3 h after the code; a day after the first promotion; the code waits for nobody
    assert times == [0, 3, 24, 0]
    assert desk.states()[2] == ("ann", "accepted", None)


@pytest.mark.parametrize("gap", [23, 24])
def test_a_gap_longer_than_the_window_is_said_at_planning(desk: Desk, gap: int) -> None:
    """Guards against rows that wait for a time that comes after their send-by."""
    desk.campaign("one")
    desk.campaign("two", contact=f"min_gap_hours: {gap}")
    desk.plan("one", [("ann", phone(1)), ("bob", phone(2))])
    send(desk, NOON)
    two = desk.plan("two", [("ann", phone(3)), ("cid", phone(2)), ("dot", phone(4))])
    assert two.reasons == ({"min_gap": 2} if gap == 24 else {})
    assert [user for user, *_ in send(desk, NOON).sent] == ["dot"]
    later = send(desk, NOON + hours(23.9)).sent  # 11:54 of the next day
    assert sorted(user for user, *_ in later) == ([] if gap == 24 else ["ann", "cid"])


JUMPS = [
    datetime(2026, 3, 7, tzinfo=UTC),  # New York on the 8th at 02:00
    datetime(2026, 3, 28, tzinfo=UTC),  # London on the 29th at 01:00
    datetime(2026, 4, 4, tzinfo=UTC),  # Lord Howe on the 5th at 02:00, by half an hour
    datetime(2026, 10, 31, tzinfo=UTC),  # New York back on November 1st
]
PLACES = [
    *("America/New_York", "Asia/Shanghai", "Europe/London", "Australia/Lord_Howe"),
    *("America/Los_Angeles", "Asia/Kolkata", None, " ", "eastern standard time"),
]


@pytest.mark.parametrize("eve", JUMPS, ids=lambda eve: f"{eve:%m-%d}")
def test_quiet_hours_hold_across_a_jump_of_the_clock(tmp_path: Path, eve: datetime) -> None:
    """Guards against a text at night anywhere in the world, and against people who get none."""
    desk = Desk.at(tmp_path / "home", f"sqlite:///{tmp_path}/c.db")
    people = [(f"u{n}", phone(n)) for n in range(len(PLACES))]
    people += [("ny", "+12125550123"), ("uk", "+441214960123"), ("cn", "+8610000000001")]
    people += [("au", "+61491570006")]  # kept for fiction
    desk.campaign("world")
    days = (0, 2)  # planned on the day before, and on the day after, whatever the hour
    for day in days:
        desk.plan("world", people, eve + hours(24 * day + 3 * day), PLACES)
        moment = eve + timedelta(days=day)
        for step in range(2 * 34):
            send(desk, moment + step * timedelta(minutes=29))
    rows = went_out(desk)
    assert len(rows) == len(people) * len(days)
    for row in rows:
        zones = (row["zone"] or "Asia/Shanghai").split("|")
        for zone in zones:
            local = row["sent_time"].astimezone(ZoneInfo(zone))
            assert (8, 0) <= (local.hour, local.minute) < (21, 59), (row["user_id"], local)
    named = {row["user_id"]: row["zone"] for row in rows}
    assert (named["ny"], named["uk"]) == ("America/New_York", "Europe/London")
    assert named["au"] == "Australia/Lord_Howe|Indian/Cocos"
    assert named["u7"] is None  # blank: nothing is given, so the business's hours hold
    assert named["u8"] == "America/New_York"  # by what Windows calls it
    desk.store.close()


def test_nobody_is_texted_by_the_business_zone_when_theirs_is_not_understood(desk: Desk) -> None:
    """People with the zone ``London`` were texted by the clock of Shanghai, at night, unreported."""
    desk.campaign("world", schedule="execute_time: 2026-03-04 10:00:00")
    zones = ["Europe/London", "London", "UTC+1", "GMT Standard Time", "europe/london"]
    people = [(f"z{n}", f"+4477009001{n}0") for n in range(1, 6)]
    made = desk.plan("world", people, NOON - hours(4), zones)
    assert made.reasons == {"unknown_zone": 2}
    by_user = {row["user_id"]: (row["zone"], row["reason"]) for row in desk.rows()}
    london, unknown = ("Europe/London", None), (None, "unknown_zone")
    assert by_user == {"z1": london, "z2": unknown, "z3": unknown, "z4": london, "z5": london}
    sent = Counting()
    for hour in range(24):
        now = NOON - hours(2) + hours(hour)  # 10:00 in Shanghai, 02:00 in London
        for user, *_ in send(desk, now).sent:
            sent.sent.append((user, "", ""))
            assert 8 <= now.astimezone(ZoneInfo("Europe/London")).hour < 22
    assert sorted(user for user, *_ in sent.sent) == ["z1", "z4", "z5"]


def test_an_own_window_of_a_campaign_and_a_night_too_late(desk: Desk) -> None:
    """Guards against a campaign's own hours that are not heeded, and rows that hang for ever."""
    desk.campaign("lunch", contact='send_from: 11:30, send_until: "13:00"')
    people = [("cn", phone(1)), ("us", phone(2)), ("two", "+61491570006")]
    zones = [None, "America/New_York"]
    made = desk.plan("lunch", people, NOON - hours(4), zones)
    # a mobile number of Australia may be in two places where it is never noon at once
    assert made.reasons == {"quiet_hours": 1}
    assert {row["user_id"]: row["not_before"] for row in desk.rows()} == {
        "cn": None,  # the occurrence itself is due at 11:30
        "us": datetime(2026, 3, 4, 16, 30, tzinfo=UTC),
        "two": None,
    }
    sent = Counting()
    for hour in range(24):
        send(desk, NOON + hours(hour), sent)
    assert [user for user, *_ in sent.sent] == ["cn", "us"]
    desk.campaign("past", schedule="execute_time: 2026-03-04 10:00:00")
    assert desk.plan("past", [("ann", phone(9))], NOON + hours(24)).reasons == {}
    send(desk, NOON + hours(24), sent)
    assert desk.states()[-1] == ("ann", "expired", "send_by_passed")


def test_a_budget_of_a_schedule_holds_for_two_plans_at_once(desk: Desk) -> None:
    """Guards against two plans that each see the whole budget, and against a cent too much."""
    desk.campaign("shop", schedule="max_cost: 1.35")  # 30 messages at 0.045
    people = [[(f"{who}{n}", phone(100 * who + n)) for n in range(25)] for who in range(3)]
    tasks = [threading.Thread(target=desk.plan, args=("shop", some)) for some in people]
    for thread in tasks:
        thread.start()
    for thread in tasks:
        thread.join()
    counts = Counter((state, reason) for _, state, reason in desk.states())
    assert counts == {("planned", None): 30, ("skipped", "over_budget"): 45}
    # what the provider rejects is not paid for, and is free for the next one
    table = schema.message
    planned = table.c.state == "planned"
    some = [row["id"] for row in desk.rows() if row["state"] == "planned"][:4]
    with desk.store.write() as connection:
        connection.execute(
            update(table).where(planned, table.c.id.in_(some)).values(state="rejected")
        )
    again = desk.plan("shop", [(f"n{n}", phone(900 + n)) for n in range(10)])
    assert again.states == {"planned": 4, "skipped": 6}
    assert again.cost == pytest.approx(0.18)


def test_old_audiences_and_promotions_without_a_way_out_are_refused(desk: Desk) -> None:
    """Guards against an audience of last month, and a text that no longer says how to refuse."""
    late = "execute_time: 2026-03-10 10:00:00"
    desk.campaign("old", schedule=late)
    with pytest.raises(UserError, match=r"^campaign 'old': its audience of 2026-03-04 would be 6 "):
        desk.plan("old", [("ann", phone(1))])
    desk.campaign("kept", schedule=late, contact="max_audience_days: 6")
    assert desk.plan("kept", [("ann", phone(1))]).people == 1
    desk.campaign("shop")
    desk.settings = desk.settings.model_copy(update={"opt_out_texts": ["Reply STOP"]})
    with pytest.raises(UserError, match=r"^campaign 'shop': .*how to refuse: add 'Reply STOP'"):
        desk.plan("shop", [("ann", phone(1))])
    assert [row["occurrence"] for row in desk.rows()] == ["20260304-kept-2"]


def test_e_mails_have_addresses_of_their_own(desk: Desk) -> None:
    """Guards against an e-mail campaign that asks for phones, or a mailbox that gets two."""
    desk.campaign("mail", channel="email")
    people = [
        ("a", "ann@example.com"),
        ("b", " Ann@Example.com "),
        ("c", None),
        ("d", "d@nowhere"),
        ("e", "eve@example.com"),
    ]
    stop(desk, NOON, phone="EVE@example.com", channel="email")
    made = desk.plan("mail", people)
    reasons = {"shared_email": 1, "no_email": 1, "bad_email": 1, "suppressed": 1}
    assert (made.reasons, made.cost, made.messages) == (reasons, 0, 1)
    assert send(desk, NOON).sent == [("a", "ann@example.com", "mail")]


def test_screen_speaks_only_of_rows_with_a_problem(desk: Desk) -> None:
    """Guards against a verdict on another occurrence's rows, and on those that may go."""
    desk.campaign("shop")
    people = [(f"u{n}", phone(n)) for n in range(8)]
    opened = desk.plan("shop", people, zones=[None] * 6 + ["Europe/London"] * 2).occurrence
    desk.plan("shop", [("z", phone(99))])
    stop(desk, NOON, user_id="u3")
    rows = {row["user_id"]: row["id"] for row in desk.rows()}
    asked = [rows[user] for user in ("u2", "u3", "u6", "z")]
    night = NOON + hours(11)
    for ids in (asked, None):
        with desk.store.write() as connection:
            screened = screen(
                connection,
                contact_rules(desk.settings, None),
                occurrence_id=opened.id,
                channel="sms",
                signature="Shop",
                template_type="promotion",
                now=night,  # 23:00 in Shanghai, 15:00 in London
                message_ids=ids,
            )
        verdicts = {(v.message_id, v.reason, v.wait_until) for v in screened}
        morning = NOON + hours(20)
        assert (rows["u3"], "suppressed", None) in verdicts
        assert {reason for _, reason, _ in verdicts} == {"suppressed", "quiet_hours"}
        assert not verdicts & {(rows["u6"], "quiet_hours", w) for w in (None, morning)}
        waiting = {one for one, reason, _ in verdicts if reason == "quiet_hours"}
        assert waiting == ({rows["u2"]} if ids else {rows[f"u{n}"] for n in (0, 1, 2, 4, 5)})


def test_a_message_counts_for_the_cap_until_its_days_have_passed(desk: Desk) -> None:
    """A person capped for a moment longer than the cap's days, or texted a moment too early."""
    desk.campaign("one")
    desk.campaign("two", contact="cap_messages: 1, cap_days: 2, min_gap_hours: 0")
    desk.plan("one", [("ann", phone(1))])
    send(desk, NOON)
    desk.plan("one", [("bob", phone(2))], NOON + hours(1))
    send(desk, NOON + hours(1))  # so that at the end of ann's days somebody's still counts
    ends = NOON + timedelta(days=2)
    early = desk.plan("two", [("ann", phone(1))], ends - timedelta(microseconds=1))
    assert early.reasons == {"capped": 1}
    assert desk.plan("two", [("ann", phone(1))], ends).reasons == {}
    assert send(desk, ends).sent == [("ann", phone(1), "two")]


WENT_OUT = ["submitting", "accepted", "in_doubt", "delivered", "undelivered", "expired"]


@pytest.mark.parametrize("state", [*WENT_OUT, "rejected", "skipped", "claimed"])
def test_what_counts_against_a_person(desk: Desk, state: str) -> None:
    """Guards against a message that did not arrive and is counted for nothing, so that the person
    gets more of them; and against one that never went out, or was another's, and is counted."""
    rules = {"number_cap": 1, "cap_messages": None, "send_within_hours": 20}
    desk.settings = desk.settings.model_copy(update=rules)
    desk.campaign("first")
    ann, shared = ("ann", phone(1)), ("bob", phone(1))
    desk.plan("first", [ann])
    send(desk, NOON)
    table = schema.message
    with desk.store.write() as connection:
        connection.execute(table.update().values(state=state))
    desk.campaign("capped", kind="notification", contact="cap_messages: 1, min_gap_hours: 0")
    desk.campaign("gap", kind="notification", contact="min_gap_hours: 24")
    desk.campaign("limit", contact="min_gap_hours: 0")
    desk.campaign("other", contact="min_gap_hours: 0", signature="Other")
    desk.campaign("mail", contact="min_gap_hours: 0", channel="email")
    later = NOON + hours(1)
    people = [ann, shared, ("ann", phone(2)), ("cid", phone(3))]
    to_ann = state in WENT_OUT

    def objections(name: str, *who: tuple[str, str]) -> list[str]:
        return [reason for one in who for reason in desk.plan(name, [one], later).reasons]

    assert objections("capped", *people) == ["capped"] * 3 * to_ann
    assert objections("gap", *people) == ["min_gap"] * 3 * to_ann
    limited = to_ann or state == "rejected"  # the provider counts what it has refused
    assert objections("limit", *people) == ["number_cap"] * 2 * limited  # by number alone
    assert objections("other", *people) == objections("mail", ("ann", "ann@example.com")) == []


def test_a_gap_of_more_than_a_day_is_kept(desk: Desk) -> None:
    """Guards against a look-back of a day, beyond which the last message is forgotten."""
    desk.settings = desk.settings.model_copy(update={"cap_messages": None})
    desk.campaign("one")
    desk.plan("one", [("ann", phone(1))])
    send(desk, NOON)
    desk.campaign("two", kind="notification", contact="min_gap_hours: 48")
    later = NOON + hours(30)
    assert desk.plan("two", [("ann", phone(1)), ("bob", phone(2))], later).reasons == {}
    assert [user for user, *_ in send(desk, later).sent] == ["bob"]
    assert send(desk, NOON + hours(47.9)).sent == []
    assert [user for user, *_ in send(desk, NOON + hours(48)).sent] == ["ann"]


@pytest.mark.parametrize("left", [timedelta(0), timedelta(seconds=1)])
def test_a_recipients_night_holds_while_it_is_day_at_the_business(
    desk: Desk, left: timedelta
) -> None:
    """Guards against a row of another zone that nobody objects to, and that is taken for one of
    the business's zone: it would go out in the night there when it is claimed late. One whose
    morning comes when the occurrence ends is skipped, and does not wait for ever."""
    desk.campaign("shop")
    people = [("cn", phone(1)), ("uk", phone(2))]
    opened = desk.plan("shop", people, zones=[None, "Europe/London"]).occurrence
    rows = {row["user_id"]: row["id"] for row in desk.rows()}
    morning = NOON + hours(4)
    table = schema.occurrence
    with desk.store.write() as connection:
        connection.execute(table.update().values(send_by=morning + left))
        screened = screen(
            connection,
            contact_rules(desk.settings, None),
            occurrence_id=opened.id,
            channel="sms",
            signature="Shop",
            template_type="promotion",
            now=NOON,  # 04:00 in London
            message_ids=list(rows.values()),
        )
    assert [(v.message_id, v.reason, v.wait_until) for v in screened] == [
        (rows["uk"], "quiet_hours", morning if left else None)
    ]


def test_a_code_waits_for_no_cap_and_no_gap(desk: Desk) -> None:
    """Guards against a code to log in with that comes a day late, because of a promotion."""
    desk.settings = desk.settings.model_copy(update={"cap_messages": 1, "min_gap_hours": 24})
    desk.campaign("one")
    desk.plan("one", [("ann", phone(1))])
    send(desk, NOON)
    desk.campaign("code", kind="notification", contact="ignore_cap: true")
    desk.campaign("two", kind="notification")
    later = NOON + hours(1)
    assert desk.plan("code", [("ann", phone(1))], later).reasons == {}
    assert desk.plan("two", [("ann", phone(1))], later).reasons == {"capped": 1}
    assert send(desk, later).sent == [("ann", phone(1), "code")]
