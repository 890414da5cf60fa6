"""Several texts in a campaign file: the sentences for mistakes, the records, and their review."""

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.review import review, reviews
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import load_spec
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.texts.content import check_content

YAML = """\
name: december
algorithm: churn
training: {window_days: 180}
population: population/december-2017
execution_date: 2017-12-28
selection: {threshold: 0.12}
signature: {name: 示例商店}
template:
  name: december offer
  content: "亲爱的${name}，新年好。拒收请回复R"
  code: SMS_1
  share: 2
  variants:
    december joke: {content: "${name}？哈哈。拒收请回复R", code: SMS_2}
    december gift: {content: "${name}，${gift}送您。拒收请回复R", share: 0.5}
schedule: {name: december send}
"""
OPT_OUT = ["拒收请回复R"]


@pytest.fixture
def store(database_url: str) -> Iterator[ControlStore]:
    opened = ControlStore(database_url)
    opened.migrate()
    yield opened
    opened.close()


def test_texts_are_read_and_kept() -> None:
    """Guards against a share, code or text that is lost between the file and the database."""
    spec = parse_campaign(YAML)
    texts = spec.template.texts
    assert [(t.name, t.code, t.share, t.key) for t in texts] == [
        ("december offer", "SMS_1", 2.0, "template"),
        ("december joke", "SMS_2", 1.0, "template.variants.december joke"),
        ("december gift", None, 0.5, "template.variants.december gift"),
    ]
    stored = load_spec(spec.model_dump(mode="json"))
    assert stored == spec and stored.template.texts == texts and stored.digest == spec.digest
    taken = json.loads(json.dumps(spec.model_dump(mode="json")).replace("december joke", "control"))
    assert "control" in load_spec(taken).template.variants  # on record since before the rule
    check_content(spec, "x.yaml", OPT_OUT)
    mail = YAML.replace("schedule:", "channel: email\nschedule:")
    mail = mail.replace("  share: 2", "  subject: 新年好").replace("share: 0.5", "subject: 礼物")
    subjects = [text.subject for text in parse_campaign(mail).template.texts]
    assert subjects == ["新年好", "新年好", "礼物"]  # the template's, where it has none of its own


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("code: SMS_2}", "cod: S}", ["template.variants.december joke.cod: unknown key", "'code'"]),
        ("share: 0.5", "share: 0", ["template.variants.december gift.share", "greater than 0"]),
        ("share: 0.5", "share: .inf", ["template.variants.december gift.share", "less than"]),
        ("share: 0.5", "code: SMS_2", ["variants.december gift.code: SMS_2 is the code of"]),
        ("SMS_2", "SMS_1", ["variants.december joke.code: SMS_1", "'december offer'"]),
        ("share: 0.5", "subject: x", ["december gift.subject: only an e-mail has one"]),
        ("december joke:", "december offer:", ["variants.december offer: the template's own text"]),
        ("december joke:", "1:", ["template.variants: a variant's name is a text: write 1 in"]),
        ("december joke:", f"{'x' * 31}:", [f"variants.{'x' * 31}: a variant's name has 1 to 30"]),
        ("name: december offer", "name: treatment", ["template.name: a report calls a group of"]),
        ("december joke:", "control:", ["template.variants.control: a report calls a group of"]),
        ("december joke:", "explored:", ["template.variants.explored: a report calls a group of"]),
        ("  variants:\n", "  other:\n", ["template.other: unknown key", "known keys are"]),
    ],
)
def test_mistakes_in_one_sentence(old: str, new: str, parts: list[str]) -> None:
    """Guards against a sentence that does not say which of the texts is meant.

    And against a text with the name of an arm, whose figures took the arm's place on the report.
    """
    with pytest.raises(UserError) as caught:
        parse_campaign(YAML.replace(old, new), "x.yaml")
    text = str(caught.value)
    assert text.startswith("x.yaml: ") and "\n" not in text
    for part in parts:
        assert part in text


def test_a_lone_text_has_no_share() -> None:
    """Guards against a share that does nothing, which a person would believe in."""
    start = YAML.index("  variants:")
    with pytest.raises(UserError, match=r"template\.share: only a template with variants"):
        parse_campaign(YAML[:start] + YAML[YAML.index("schedule:") :])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("哈哈。拒收请回复R", "哈哈。", r"template\.variants\.december joke\.content: a promotion"),
        ("${gift}送", "${gift}${name}送", r"december gift\.content: each variable stands once"),
        ("${gift}送", f"{'长' * 500}送", r"december gift\.content: a template has 1 to 500"),
        ("新年好。拒收请回复R", "新年好。", r"template\.content: a promotion template must say"),
    ],
)
def test_every_text_keeps_the_rules(old: str, new: str, sentence: str) -> None:
    """Guards against a second text that slips past the rules which the first one keeps."""
    with pytest.raises(UserError, match=rf"^x\.yaml: .*{sentence}"):
        check_content(parse_campaign(YAML.replace(old, new)), "x.yaml", OPT_OUT)


def linked(store: ControlStore) -> list[str]:
    """Names of the further texts of the only schedule."""
    link, template = schema.schedule_variant, schema.template
    query = select(template.c.name).join(link, link.c.template_id == template.c.id)
    with store.read() as connection:
        return list(connection.scalars(query.order_by(template.c.name)))


def test_each_text_is_a_record_with_a_review(store: ControlStore) -> None:
    """Guards against a variant that goes out unread, or an approval lost since another changed."""
    made = apply_campaign(store, parse_campaign(YAML), "ann")
    assert sum("template" in one for one in made.created) == 3
    assert apply_campaign(store, parse_campaign(YAML), "ann").unchanged
    table = schema.template
    with store.read() as connection:
        codes = dict(connection.execute(select(table.c.name, table.c.template_code)).tuples().all())
    assert codes == {
        "december offer": "SMS_1",
        "december joke": "SMS_2",
        "december gift": "UG_000003",
    }
    for name in codes:
        review(store, "template", name, True, None, "bob")
    again = apply_campaign(store, parse_campaign(YAML.replace("哈哈", "嘻嘻")), "ann")
    assert any("template.variants.december joke.content" in text for text in again.changed)
    statuses = {one.name: one.status.name for one in reviews(store, "december")}
    assert statuses == {
        "示例商店": "REVIEWING",
        "december offer": "APPROVED",
        "december joke": "REVIEWING",
        "december gift": "APPROVED",
    }
    start, end = YAML.index("    december joke"), YAML.index("    december gift")
    apply_campaign(store, parse_campaign(YAML[:start] + YAML[end:]), "ann")
    assert linked(store) == ["december gift"]
    assert "december joke" not in {one.name for one in reviews(store, "december")}


def test_campaigns_do_not_take_each_others_variants(store: ControlStore) -> None:
    """Guards against two files that undo each other's variant, or its code, at each apply."""
    apply_campaign(store, parse_campaign(YAML), "ann")
    other = (
        YAML.replace("name: december\n", "name: other\n")
        .replace("december-2017", "other-2017")
        .replace("december send", "other send")
        .replace("december offer", "other offer")
        .replace("  code: SMS_1\n", "")
    )
    changed = other.replace("哈哈", "嘻嘻")
    key = r"campaign 'other': template\.variants\.december joke: template 'december joke' is used"
    with pytest.raises(UserError, match=key):
        apply_campaign(store, parse_campaign(changed), "ann")
    named = changed.replace("december joke", "other joke")
    with pytest.raises(UserError, match=r"variants\.other joke\.code: SMS_2 is the code of"):
        apply_campaign(store, parse_campaign(named), "ann")
    apply_campaign(store, parse_campaign(other), "ann")  # the same text may be shared
    assert linked(store) == [*["december gift"] * 2, *["december joke"] * 2]
