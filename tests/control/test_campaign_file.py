"""The campaign file: what it accepts, and the one sentence it gives for a mistake."""

from datetime import date, time, timedelta
from pathlib import Path
from time import process_time

import pytest

from usergrowth_dagster.control.campaign import load_campaign, parse_campaign
from usergrowth_dagster.control.campaign_blocks import ScheduleSpec
from usergrowth_dagster.control.tasks import load_spec
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.policy.contact import contact_rules
from usergrowth_dagster.settings import Settings

GOOD = """\
name: december-offer
remark: end of the year
algorithm: {kind: winback, op_target: null, return_days: 28, return_behaviors: [redeem]}
training:
  start_date: 2017-03-01
  end_date: 20171227
  calibrate_from: 2017-06-20
  test_from: 2017-09-01
population: population/december-2017
execution_date: 2017-12-28
selection: {threshold: 0.12}
holdout: {share: 0.1, namespace: global, epoch: 2017}
channel: sms
signature: {name: 示例商店, description: a shop}
template: {name: december offer, content: "亲爱的${name}，新年好。拒收请回复R", type: promotion}
schedule: {name: december send, execute_time: null, repeat_unit: never}
"""


def test_every_setting_is_read() -> None:
    """Guards against a key that is accepted and then forgotten."""
    spec = parse_campaign(GOOD)
    assert spec.execution_date == date(2017, 12, 28)
    assert spec.training.end_date == date(2017, 12, 27)
    assert spec.holdout.epoch == "2017"
    assert spec.output_of("december-2017") == "population_output/december-2017"
    assert load_spec(spec.model_dump(mode="json")) == spec
    assert load_spec(spec.model_dump(mode="json")).digest == spec.digest


def test_the_people_of_a_segment_need_no_population() -> None:
    """Guards against a campaign that loses its segment on record, or two that share a task."""
    text = GOOD.replace("population: population/december-2017\n", "")
    spec = parse_campaign(text.replace("{threshold: 0.12}", "{threshold: 0.12, segment: big}"))
    assert spec.of_segment and spec.selection.segment == "big"
    assert spec.population.rpartition("/")[2] == spec.name
    assert load_spec(spec.model_dump(mode="json")) == spec
    assert not parse_campaign(GOOD).of_segment


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        ("churn", "15aec93b9f0fb1f4d16a4e2ea84d85cab4ed89abb330a19a273bf75d187f03fd"),
        (
            "{kind: churn, churn_days: 14}",
            "d71455711ff811ab616a02fe0f7d37ccaf209020bc018a6c236cd112b8bce714",
        ),
        ("winback", "4be8770b3300d01aea10e6bb9ed645128118347dfe6f443d5b8f8ab550d2ba87"),
        (
            "{kind: winback, op_target: sms, return_days: 14, return_behaviors: [redeem], "
            "return_on_item: true}",
            "ccf4479709ae67199ab24fe1d651e5e3a4bc59649a8ba2bad087bd072cc622b5",
        ),
    ],
)
def test_the_record_of_a_campaign_stays_what_it_was(algorithm: str, digest: str) -> None:
    """Guards against an upgrade that takes each campaign on record for a changed one."""
    spec = parse_campaign(
        f"name: spring\nalgorithm: {algorithm}\ntraining: {{window_days: 180}}\n"
        "population: population/spring\nexecution_date: 2024-04-01\nselection: {top_n: 5}\n"
        "signature: {name: Example}\nschedule: {name: send}\n"
        "template: {name: text, content: Hello R 拒收请回复R, type: promotion}\n"
    )
    assert spec.digest == digest
    assert load_spec(spec.model_dump(mode="json")) == spec


def test_vendor_settings_are_understood() -> None:
    """Guards against refusing the job settings that the vendor's own template uses."""
    text = (
        GOOD.replace(
            "algorithm: {kind: winback, op_target: null, return_days: 28, return_behaviors: [redeem]}\n",
            "",
        )
        .replace("execution_date: 2017-12-28\n", "")
        .replace("{threshold: 0.12}", '{"percentage_threshold":0.5,"exe_date":"20220201"}')
    )
    start = text.index("training:")
    end = text.index("population:")
    vendor = (
        '{"algorithm":"sms_recall","start_date":"20220101","end_date":"20220208","op_target":"sms"}'
    )
    spec = parse_campaign(f"{text[:start]}training: {vendor}\n{text[end:]}")
    assert (spec.algorithm.kind, spec.algorithm.op_target) == ("winback", "sms")
    assert spec.algorithm.return_days == 28
    assert spec.training.start_date == date(2022, 1, 1)
    assert spec.selection.threshold == 0.5
    assert spec.execution_date == date(2022, 2, 1)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("threshold: 0.12", "treshold: 0.12", ["selection.treshold", "did you mean 'threshold'"]),
        ("channel: sms", "chanel: sms", ["chanel: unknown key", "'channel'"]),
        ("channel: sms", "color: red", ["color: unknown key", "known keys are name"]),
        ("threshold: 0.12", "threshold: 1", ["selection.threshold", "less than 1"]),
        ("threshold: 0.12", "threshold: 0", ["selection.threshold", "greater than 0"]),
        ("threshold: 0.12", "threshold: high", ["selection.threshold", "number", "'high'"]),
        ("threshold: 0.12", "top_n: yes", ["selection.top_n", "integer", "True"]),
        ("threshold: 0.12", "threshold: 0.5, top_n: 3", ["selection:", "exactly one of"]),
        ("{threshold: 0.12}", "{}", ["selection:", "but has none"]),
        ("{threshold: 0.12}", "0.12", ["selection: must be a group of keys"]),
        ("kind: winback", "kind: lottery", ["algorithm.kind", "'spend' or 'winback'", "'lottery'"]),
        ("return_days: 28", "churn_days: 7", ["algorithm: churn_days does not belong"]),
        (
            "return_days: 28",
            "retun_days: 7",
            ["algorithm.retun_days", "did you mean 'return_days'"],
        ),
        ("kind: winback, ", "", ["algorithm.kind: required, but missing"]),
        (
            GOOD.splitlines()[2],
            "algorithm: {kind: spend, amount: pay, days: 31}",
            ["algorithm.days: must be 7, 14, 30, 60 or 90, not 31"],
        ),
        (
            GOOD.splitlines()[2],
            "algorithm: {kind: spend, amount: pay}",
            ["selection.threshold: the score of a spend campaign is an amount"],
        ),
        ("start_date: 2017-03-01", "start_date: 1.3.2017", ["training.start_date", "'1.3.2017'"]),
        (
            "start_date: 2017-03-01",
            "start_date: 2018-03-01",
            ["training: start_date must be before"],
        ),
        ("test_from: 2017-09-01", "test_from: 2017-05-01", ["training: must rise"]),
        ("start_date: 2017-03-01", "window_days: 90", ["training: give either"]),
        ("execution_date: 2017-12-28", "execution_date: soon", ["execution_date:", '"on upload"']),
        ("population/december-2017", "../december", ["population: must be a folder below"]),
        ("population/december-2017", "population/*/x", ["population: must be population/<task>"]),
        ("population: population/december-2017\n", "", ["population: is missing", "segment"]),
        ("population/december-2017", "segment/big", ["population: must be population/<task>"]),
        (
            "population: population/december-2017\nexecution_date: 2017-12-28\nselection: {",
            "execution_date: on upload\nselection: {segment: big, ",
            ["execution_date: the people of a segment are not uploaded"],
        ),
        ("{threshold: 0.12}", "{threshold: 0.12, segment: Big}", ["selection.segment"]),
        ("name: december-offer", "name: x", ["name: string should match"]),
        ("name: december-offer\n", "", ["name: required, but missing"]),
        ("type: promotion", "type: notification", ["template.type", "promotion"]),
        ("repeat_unit: never", "repeat_unit: day", ["schedule.repeat_times: say how many times"]),
        ("repeat_unit: never", "repeat_times: 3", ["schedule.repeat_times: needs a repeat_unit"]),
        ("repeat_unit: never", "repeat_unit: year", ["schedule.repeat_unit: must be 'never'"]),
        (
            "repeat_unit: never",
            "repeat_unit: day, repeat_cycle: 0, repeat_times: 1",
            ["schedule.repeat_cycle: must be 1 or more days"],
        ),
        (
            "repeat_unit: never",
            "repeat_unit: hour, repeat_times: -1, refresh_audience: true",
            ["schedule.refresh_audience: is decided once a day"],
        ),
        ("repeat_unit: never", "max_cost: 0", ["schedule.max_cost", "greater than 0"]),
        (
            "execute_time: null",
            "execute_time: 2017-12-29 10:00:00, end_time: 2017-12-29 09:00:00",
            ["schedule.end_time: must be after execute_time"],
        ),
        (
            "execute_time: null",
            "execute_time: 2017-12-27 10:00:00",
            ["schedule.execute_time: must not be before the execution_date 2017-12-28"],
        ),
        ("execute_time: null", "execute_time: soon", ["schedule.execute_time", '"now"']),
        (
            "repeat_unit: never",
            "smart_send: {start_date: 2017-12-27, end_date: 2017-12-29}",
            ["schedule.smart_send.start_date: must not be before the execution_date"],
        ),
        (
            "repeat_unit: never",
            "smart_send: {start_date: 2017-12-28, end_date: 2018-12-28}",
            ["schedule.smart_send.end_date: the window may have at most 31 days"],
        ),
        (
            "execute_time: null",
            "execute_time: now, smart_send: {start_date: 2017-12-28, end_date: 2017-12-29}",
            ["schedule.execute_time: smart_send has its own"],
        ),
        (
            "execute_time: null",
            "execute_time: 2017-12-28",
            ["schedule.execute_time: must be a time"],
        ),
        (
            "channel: sms",
            "channel: sms\nchannel: sms",
            ["line 14, column 1", "'channel' appears twice, first on line 13"],
        ),
        (
            "threshold: 0.12",
            "threshold: 0.5, rank_by: uplift",
            ["selection.rank_by: a threshold is one of the score"],
        ),
        (
            "threshold: 0.12",
            "threshold: 0.5, fallback: {top_n: 3}",
            ["selection.fallback: only a choice by uplift"],
        ),
        ("threshold: 0.12", "money: {}", ["effect.value_per_return: selection.money needs"]),
        ("threshold: 0.12", "money: {budgt: 3}", ["selection.money.budgt", "'budget'"]),
        ("channel: sms", "effect: {return_days: 0}", ["effect.return_days", "greater than 0"]),
        (
            "share: 0.1,",
            "share: 0.1234567, strata: [activity],",
            ["holdout.share: with strata", "0.1234567"],
        ),
        ("channel: sms", "contact: {cap_day: 3}", ["contact.cap_day: unknown", "'cap_days'"]),
        ("channel: sms", "contact: {send_from: 25:00}", ["contact.send_from", "time of day"]),
        ("channel: sms", "contact: {send_until: 8}", ["contact.send_until", "time of day"]),
        ("channel: sms", "contact: {cap_messages: 0}", ["contact.cap_messages", "greater than 0"]),
        ("channel: sms", "contact: {ignore_cap: true}", ["contact.ignore_cap: only codes and"]),
        ("type: promotion", "subject: Hello", ["template.subject: only an e-mail has one"]),
        ("channel: sms", "channel: [sms", ["line ", "column ", "not valid YAML"]),
        ("2017-12-28", "2017-02-30", ["not valid YAML"]),
    ],
)
def test_mistake_gives_one_sentence(old: str, new: str, parts: list[str]) -> None:
    """Guards against a traceback or a message that names neither the key nor the rule."""
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        parse_campaign(GOOD.replace(old, new, 1), "winter.yaml")
    sentence = str(caught.value)
    assert sentence.startswith("winter.yaml")
    assert "\n" not in sentence
    for part in parts:
        assert part in sentence, sentence


def test_schedules_are_read() -> None:
    """Guards against a schedule that is not sent as it was written, or changes on a round trip."""

    def schedule(text: str) -> ScheduleSpec:
        spec = parse_campaign(
            GOOD.replace("execute_time: null, repeat_unit: never", text).replace(
                "execution_date: 2017-12-28", "execution_date: on upload"
            )
        )
        assert load_spec(spec.model_dump(mode="json")) == spec
        return spec.schedule

    assert schedule("execute_time: NOW").execute_time == "now"
    daily = schedule("repeat_unit: day, end_time: 2018-01-31 00:00:00, refresh_audience: true")
    assert (daily.repeat_cycle, daily.repeat_times, daily.refresh_audience) == (1, -1, True)
    monthly = schedule("repeat_unit: month, repeat_cycle: 2, repeat_times: 3, max_cost: 5")
    assert (monthly.repeat_cycle, monthly.repeat_times, monthly.max_cost) == (2, 3, 5.0)
    smart = schedule("smart_send: {start_date: 20171228, end_date: 2017-12-30}").smart_send
    assert smart is not None
    assert (smart.start_date, smart.end_date) == (date(2017, 12, 28), date(2017, 12, 30))


def test_contact_rules_are_read() -> None:
    """Guards against hours that YAML reads as numbers, and rules lost on their way to the ledger."""
    text = """\
contact:
  cap_messages: 1
  min_gap_hours: 48
  send_from: 08:30
  send_until: 21:30
  require_consent: sms_ok
"""
    spec = parse_campaign(GOOD + text)
    assert load_spec(spec.model_dump(mode="json")) == spec
    settings = Settings(cap_messages=5, cap_days=9, send_until=time(20))
    stored = spec.contact.model_dump(mode="json", exclude_defaults=True)
    for block in (stored, spec.contact.model_dump()):
        rules = contact_rules(settings, block)
        assert (rules.cap_messages, rules.cap_window) == (1, timedelta(days=9))
        assert (rules.send_from, rules.send_until) == (time(8, 30), time(21, 30))
        assert (rules.min_gap, rules.require_consent) == (timedelta(days=2), "sms_ok")
    bare = contact_rules(settings, parse_campaign(GOOD).contact.model_dump())
    assert bare == contact_rules(settings, None)
    assert (bare.cap_messages, bare.send_until) == (5, time(20))


def test_a_task_that_is_decided_again_needs_room() -> None:
    """Guards against a name or an output folder that two occurrences would share."""
    again = GOOD.replace(
        "repeat_unit: never", "repeat_unit: day, repeat_times: -1, refresh_audience: true"
    )
    with pytest.raises(UserError, match=r"population: with schedule\.refresh"):
        parse_campaign(again.replace("population/december-2017", f"population/{'x' * 60}"))
    with pytest.raises(UserError, match=r"output: with schedule\.refresh"):
        parse_campaign(f"{again}output: population_output/one\n")


def test_several_mistakes_are_counted() -> None:
    """Guards against a long list where the first mistake is lost, and against hiding the rest."""
    text = GOOD.replace("channel: sms", "channel: fax").replace("0.12", "7").replace("0.1,", "2,")
    with pytest.raises(UserError, match=r"\(and 2 more\)$"):
        parse_campaign(text)


def test_unreadable_files(tmp_path) -> None:
    """Guards against a traceback for a missing, empty or wrongly encoded file."""
    with pytest.raises(UserError, match="No such file"):
        load_campaign(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(UserError, match="expected keys with values"):
        load_campaign(tmp_path / "empty.yaml")
    (tmp_path / "gbk.yaml").write_bytes("name: 商店".encode("gbk"))
    with pytest.raises(UserError, match="not UTF-8"):
        load_campaign(tmp_path / "gbk.yaml")


HOSTILE = {
    "aliases of aliases": "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*{'a' if not n else f'b{n - 1}'}, *{'a' if not n else f'b{n - 1}'}]\n" for n in range(60)),
    "brackets": "name: " + "[" * 20_000,
    "braces": "{a: " * 20_000,
    "dashes": "- " * 20_000,
    "large": "remark: " + "x" * (30 << 20),
    "quotes": '"' * 200_000,
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_one_sentence_at_once(tmp_path: Path, text: str) -> None:
    """A few lines of aliases took all memory, and nested brackets ended in a traceback."""
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    started = process_time()
    with pytest.raises(UserError) as error:
        load_campaign(path)
    assert process_time() - started < 2
    assert str(error.value).startswith(f"{path}") and len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name：spring\nalgorithm: churn\n", "line 1, column 5: the colon ： is full-width"),
        ("name: spring\nalgorithm：churn\n", "line 2, column 10: the colon ： is full-width"),
        ("name: spring\nselection: {threshold：0.3}\n", "selection.threshold：0.3: the colon ： is full-width"),
        ("selection:\n  threshold：0.3\n  top_n: 3\n", "line 2, column 12: the colon ： is full-width"),
        ("selection:\n\u3000threshold: 0.3\n", "the line begins with a full-width space"),
    ],
)  # fmt: skip
def test_a_full_width_mark_is_named(text: str, sentence: str) -> None:
    """A Chinese keyboard's colon looks like the right one: the parser's own words do not help."""
    with pytest.raises(UserError) as error:
        parse_campaign(text, "c.yaml")
    assert sentence in str(error.value)


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    """A byte number is of no use to a person with an editor."""
    path = tmp_path / "c.yaml"
    path.write_bytes("name: spring\nremark: 春天\n".encode("gbk"))
    with pytest.raises(UserError, match=r"c\.yaml: line 2: not UTF-8 .*save it as UTF-8"):
        load_campaign(path)
