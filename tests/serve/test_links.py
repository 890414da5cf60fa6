"""Short links from the plan to the click: who is led where, and what is kept of it."""

import csv
import http.client
import io
import logging
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from serving import SECRET, Server
from sqlalchemy import select
from support.sending import CAMPAIGN, decided, outbox, plan

from usergrowth_dagster.audience.variants import VariantDraw, variant_sql
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.intake.clicks import FILE_NAME, days_with_clicks, land_clicks
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.forget import Person, erase_in_store
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.plans.forecast import forecast
from usergrowth_dagster.messaging.plans.rehearsal import with_example_links
from usergrowth_dagster.messaging.receiving.clicks import Caller, Click, caller_of, record_clicks
from usergrowth_dagster.messaging.schedules.occurrences import occurrences_of
from usergrowth_dagster.messaging.texts.content import message_columns_by_variant_sql
from usergrowth_dagster.messaging.texts.links import EXAMPLE, LENGTH, LinkTokens, with_example
from usergrowth_dagster.people.forget import forget
from usergrowth_dagster.project import Project
from usergrowth_dagster.serve import guesses as guesses_module
from usergrowth_dagster.serve import links as links_module
from usergrowth_dagster.serve.app import make_app
from usergrowth_dagster.serve.guesses import MOST, PAUSE, WINDOW, Guesses
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.views.deliveries import read_deliveries
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.landing import land_days

D = datetime(2017, 12, 28, tzinfo=UTC).date()
ROOT = "https://s.example.com"
OFFER, BOOK = "https://shop.example/offer?from=text", "https://shop.example/book#new"
TEXTS = {
    "plain": ("亲爱的${name}，新年好 ${link} 拒收请回复R", OFFER),
    "book": (f"${{name}}，{'好书' * 18} ${{link}} 拒收请回复R", BOOK),
    "none": ("${name}，新年好。拒收请回复R", None),
}
YAML = (
    CAMPAIGN
    + f"""\
template:
  name: plain
  content: "{TEXTS["plain"][0]}"
  link: {OFFER}
  variants:
    book: {{content: "{TEXTS["book"][0]}", link: "{BOOK}"}}
    none: {{content: "{TEXTS["none"][0]}"}}
effect: {{return_behaviors: [buy]}}
"""
)
DRAW = VariantDraw(campaign="december", epoch="1", weights=dict.fromkeys(TEXTS, 1.0))
BROWSER = "Mozilla/5.0 (Linux; Android 14; CUBOT X30) AppleWebKit/537.36 Chrome/125.0 Mobile"
World = tuple[ControlStore, Settings]


def made(home: Path, url: str, link_domain: str | None) -> World:
    """A store with the campaign, decided, and all of its texts approved."""
    return decided(home, url, YAML, link_domain=link_domain)


@pytest.fixture
def world(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Sixty people who were sent one of three texts, two of which have a link, some time ago."""
    monkeypatch.setenv("USERGROWTH_SECRET_KEY", SECRET)
    store, settings = made(tmp_path / "home", database_url, f"{ROOT}/")
    plan(store, settings, crowd(settings, 60))
    assert dispatch(store, settings).accepted == 60
    with store.write() as connection:
        earlier = datetime.now(UTC) - timedelta(minutes=5)
        connection.execute(schema.batch.update().values(submitted_time=earlier))
    yield store, settings
    store.close()


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    with TestClient(make_app(world[1]), base_url="http://evil.example") as running:
        running.headers["user-agent"] = BROWSER
        running.follow_redirects = False
        yield running


def crowd(settings: Settings, size: int) -> pa.Table:
    """People with the text that is drawn for them, as a decision and the plan make it."""
    shown = {name: with_example(text, link, ROOT) for name, (text, link) in TEXTS.items()}
    columns = message_columns_by_variant_sql(shown, "示例商店")
    with open_engine(settings) as engine:
        return engine.arrow(
            f"""
            select *, {columns} from (
                select 'u' || n as user_id, 'item' as item_id, {variant_sql(DRAW, "'u' || n")}
                    as variant, '+999' || lpad(n::varchar, 10, '0') as phone,
                    map {{'name': '客' || n}} as variables
                from range({size}) r(n) order by n
            )
            """
        )


def sent(world: World) -> dict[str, tuple[str, str, str]]:
    """By user: the token of the text that went out, its variant and its message's id."""
    store, settings = world
    with store.read() as connection:
        of_user = dict(
            connection.execute(select(schema.message.c.user_id, schema.message.c.variant))
            .tuples()
            .all()
        )
    found = {}
    for line in outbox(settings):
        name, text = of_user[line["user_id"]], str(line["text"])
        token = text.partition(f"{ROOT}/")[2][:LENGTH]
        assert bool(token) == (name != "none")
        assert (line["params"].get("link") is not None) == bool(token)
        if token:
            assert line["params"]["link"] == f"{ROOT}/{token}"
            found[line["user_id"]] = (token, name, line["out_id"])
    return found


def clicks(world: World) -> dict[tuple[int, str], int]:
    """Counts by message and kind."""
    table = schema.click
    with world[0].read() as connection:
        rows = connection.execute(select(table.c.message_id, table.c.kind, table.c.count)).all()
    counts: Counter[tuple[int, str]] = Counter()
    for message_id, kind, count in rows:
        counts[message_id, kind] += count
    return dict(counts)


def test_everyone_has_a_link_of_their_own(world: World, client: TestClient) -> None:
    """Guards against one link for two people, and a link to another text's page."""
    links = sent(world)
    assert len({token for token, *_ in links.values()}) == len(links) > 20
    assert {name for _, name, _ in links.values()} == {"plain", "book"}
    for token, name, _ in links.values():
        answer = client.get(f"/{token}")
        assert (answer.status_code, answer.headers["location"]) == (302, TEXTS[name][1])
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert clicks(world) == {(int(out_id), "human"): 1 for *_, out_id in links.values()}


def test_segments_are_those_of_the_text_that_goes_out(world: World) -> None:
    """Guards against a plan that counts a link of another length, and a preview with none."""
    lines = outbox(world[1])
    assert {line["segments"] for line in lines} == {1, 2}
    (opened,) = occurrences_of(world[0], "december-2017")
    ledger = Ledger(world[0], open_vault(world[1].home))
    with open_engine(world[1]) as engine:
        outlook = forecast(ledger, engine, opened, world[1].zone, 3)
    assert outlook.longest is not None and f"{ROOT}/{EXAMPLE}" in outlook.longest.text
    assert outlook.longest.length == max(len(str(line["text"])) for line in lines)


def test_nothing_of_the_request_leads_anywhere(world: World, client: TestClient) -> None:
    """Guards against an open redirect, by which others borrow the shop's good name."""
    token, name, _ = next(iter(sent(world).values()))
    headers = {"host": "evil.example", "x-forwarded-host": "evil.example", "referer": "//evil"}
    for odd in (
        "?url=https://evil.example",
        "?next=//evil.example&utm_source=x",
        "/",
        "?%0d%0aLocation:%20https://evil.example",
    ):
        answer = client.get(f"/{token}{odd}", headers=headers)
        assert (answer.status_code, answer.headers["location"]) == (302, TEXTS[name][1]), odd


def test_other_tokens_are_not_found(world: World, client: TestClient) -> None:
    """Guards against links that somebody made up, and answers that quote them."""
    token = next(iter(sent(world).values()))[0]
    swapped = token[:-1] + ("0" if token[-1] != "0" else "1")
    of_nobody = LinkTokens(open_vault(world[1].home)).token(9_999)
    paths = [
        swapped,
        EXAMPLE,
        of_nobody,
        "x",
        "%2F%2Fevil.example",
        "https:evil.example",
        "favicon.ico",
    ]
    for path in paths:
        answer = client.get(f"/{path}")
        assert answer.status_code == 404 and "location" not in answer.headers, path
        assert "evil" not in answer.text
    assert client.post(f"/{token}").status_code == 405
    assert clicks(world) == {}


def test_a_caller_who_guesses_waits_and_a_link_of_ours_never_does(
    world: World, client: TestClient
) -> None:
    """Guards against guesses without end, and people of the same address at a closed door."""
    token, name, _ = next(iter(sent(world).values()))
    for guess in range(MOST):
        assert client.get(f"/{guess:0>13}").status_code == 404
    answer = client.get(f"/{'g' * 13}")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, str(int(PAUSE)))
    assert "g" * 13 not in answer.text
    assert client.get(f"/{token}").headers["location"] == TEXTS[name][1]


def test_guesses_are_forgotten_in_time_and_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a caller who is shut out for good, for another's guesses, and full memory."""
    now = [0.0]
    guesses = Guesses(lambda: now[0])
    assert [guesses.refuse("one") for _ in range(MOST + 1)] == [*[None] * MOST, int(PAUSE)]
    assert guesses.refuse("other") is None
    now[0] = PAUSE - 1
    assert guesses.refuse("one") == 2
    now[0] = PAUSE
    assert guesses.refuse("one") is None
    for _ in range(MOST):  # slowly: so many within the window are never reached
        now[0] += WINDOW / MOST * 1.1
        assert guesses.refuse("one") is None
    monkeypatch.setattr(guesses_module, "MOST_CALLERS", 3)
    for number in range(50):
        guesses.refuse(f"{number}")
    assert len(guesses) == 3
    assert guesses.refuse("one") is None


def test_a_second_click_is_kept_apart(world: World, client: TestClient) -> None:
    """Guards against people who count twice, and a bot's look that counts as a person's."""
    token, _, out_id = next(iter(sent(world).values()))
    for _ in range(3):
        assert client.get(f"/{token}").status_code == 302
    for agent in ("WhatsApp/2.23.20", "facebookexternalhit/1.1", "Twitterbot/1.0", "curl/8.1", ""):
        assert client.get(f"/{token}", headers={"user-agent": agent}).status_code == 302
    assert client.get(f"/{token}", headers={"sec-purpose": "prefetch;prerender"}).status_code == 302
    assert client.head(f"/{token}").status_code == 302
    assert clicks(world) == {(int(out_id), "human"): 3, (int(out_id), "bot"): 7}
    with world[0].read() as connection:
        assert len(connection.execute(select(schema.click)).all()) == 2


def test_the_delivery_shows_who_clicked(world: World, client: TestClient) -> None:
    """Guards against people who count twice, bots among them, and a text without a link."""
    store, settings = world
    links = sent(world)
    of = {name: [token for token, one, _ in links.values() if one == name] for name in TEXTS}
    for token in (of["plain"][0], of["plain"][0], of["plain"][1], of["book"][0]):
        client.get(f"/{token}")
    client.get(f"/{of['book'][1]}", headers={"user-agent": "Slackbot 1.0"})
    (book, plain) = read_deliveries(store, settings).clicked
    assert (plain.variant, plain.people, plain.clicked, plain.clicks, plain.bots) == (
        *("plain", len(of["plain"]), 2, 3),
        0,
    )
    assert (book.variant, book.people, book.clicked, book.clicks, book.bots) == (
        *("book", len(of["book"]), 1, 1),
        1,
    )
    assert plain.rate == pytest.approx(2 / len(of["plain"])) and plain.delivered == 0


def test_who_is_a_bot() -> None:
    """Guards against scanners of a network, which look at once, in the share of who clicked."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    agent = {"user-agent": BROWSER}
    assert caller_of("GET", agent, now - timedelta(milliseconds=900), now) is Caller.BOT
    assert caller_of("GET", agent, now - timedelta(seconds=2), now) is Caller.HUMAN
    early = now - timedelta(hours=1)
    iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Safari"
    wechat = f"{iphone} MicroMessenger/8.0.49"
    for human in (iphone, wechat, BROWSER):
        assert caller_of("GET", {"user-agent": human}, early, now) is Caller.HUMAN
    for bot in ("Mozilla/5.0 (compatible; bingbot/2.0)", "python-requests/2.3", "Slackbot 1.0"):
        assert caller_of("GET", {"user-agent": bot}, early, now) is Caller.BOT


def test_hours_are_rows_and_first_times_stay(world: World) -> None:
    """Guards against a click that is lost beside another one, or a row for every call."""
    store = world[0]
    noon = datetime(2017, 12, 28, 12, tzinfo=UTC)
    out_id = int(next(iter(sent(world).values()))[2])
    (opened,) = occurrences_of(store, "december-2017")
    made = [
        Click(out_id, opened.id, Caller.HUMAN, noon + timedelta(minutes=minutes))
        for minutes in (20, 5, 59, 60, 200)
    ]
    assert record_clicks(store, made[:2]) == 2 and record_clicks(store, made[2:]) == 3
    table = schema.click
    with store.read() as connection:
        rows = connection.execute(select(table.c.time, table.c.count).order_by(table.c.time)).all()
    minutes = {(row[0] - noon) // timedelta(minutes=1): row[1] for row in rows}
    assert minutes == {5: 3, 60: 1, 200: 1}
    assert record_clicks(store, []) == 0


def test_a_forgotten_persons_clicks_go(world: World, client: TestClient) -> None:
    """Guards against a trace of somebody who was forgotten, also by a click afterwards."""
    store, settings = world
    links = sent(world)
    (user, (token, _, _)), (_, (other, _, out_id)), *_ = links.items()
    client.get(f"/{token}")
    client.get(f"/{other}")
    vault = open_vault(settings.home)
    assert erase_in_store(store, vault, Person(user), dry_run=True)["click"] == 1
    assert erase_in_store(store, vault, Person(user))["click"] == 1
    assert client.get(f"/{token}").status_code == 302
    assert clicks(world) == {(int(out_id), "human"): 1}


def test_a_click_that_cannot_be_stored_leads_on(
    world: World, client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Guards against people at a closed door, and losses that nobody hears of."""
    token, name, _ = next(iter(sent(world).values()))

    def full(store: ControlStore, made: Any) -> int:
        raise OSError(f"no space for {token}")

    monkeypatch.setattr(links_module, "record_clicks", full)
    with caplog.at_level(logging.INFO):
        assert client.get(f"/{token}").headers["location"] == TEXTS[name][1]
    said = " ".join(one.getMessage() for one in caplog.records if one.name == "usergrowth.serve")
    assert "a click was not stored" in said
    assert token not in said and "CUBOT" not in said
    assert clicks(world) == {}

    def down(store: ControlStore, message_id: int) -> None:
        raise OSError

    monkeypatch.setattr(links_module, "target_of", down)
    answer = client.get(f"/{token}")
    assert answer.status_code == 503 and "again" in answer.text


def test_killed_in_between_no_answered_click_is_lost(world: World, database_url: str) -> None:
    """Guards against a redirect before its click is on disk: a crash would lose it."""
    server = Server(world[1].home, database_url)
    server.start()
    counted: Counter[str] = Counter()
    links = list(sent(world).values())[:12]
    try:
        for token, name, out_id in links:
            for _ in range(2):
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
                connection.request("GET", f"/{token}", headers={"User-Agent": BROWSER})
                answer = connection.getresponse()
                assert (answer.status, answer.getheader("Location")) == (302, TEXTS[name][1])
                counted[out_id] += 1
                connection.close()
    finally:
        server.kill()
    assert clicks(world) == {(int(one), "human"): count for one, count in counted.items()}
    log = server.log.read_text()
    assert "GET /<token> 302" in log
    assert not any(token in log for token, *_ in links) and "CUBOT" not in log


def test_clicks_land_as_behavior(world: World, client: TestClient) -> None:
    """Guards against clicks that no feature sees, count twice, or bring a number along."""
    settings = world[1]
    project = Project(settings)
    assert days_with_clicks(project) == [] == land_clicks(project, [D])
    (user, (token, name, _)), (other, (second, _, _)), *rest = sent(world).items()
    for path, agent in ((token, BROWSER), (token, BROWSER), (second, BROWSER)):
        client.get(f"/{path}", headers={"user-agent": agent})
    client.get(f"/{rest[0][1][0]}", headers={"user-agent": "Slackbot 1.0"})
    assert days_with_clicks(project) == [D]
    (done,) = land_clicks(project, [D])
    assert (done.people, done.messages, done.clicks, done.state) == (2, 2, 3, "written")
    (entry,) = project.landing.files("behavior", deep=True)
    first = project.landing.read_bytes(entry.path)
    assert entry.path == f"behavior/ds=20171228/{FILE_NAME}" and b"999" not in first
    rows = {row["user_id"]: row for row in csv.DictReader(io.StringIO(first.decode()))}
    assert rows[user] == {
        "user_id": user,
        "behavior": "click",
        "item_id": "item",
        "kvs_num": "hh10:2",  # ten in the morning on the business clock, which is pinned
        "kvs_str": f"channel:sms campaign:december task:december-2017 variant:{name}",
    }
    assert rows.keys() == {user, other} and rows[other]["kvs_num"] == "hh10:1"
    assert [one.state for one in land_clicks(project, [D])] == ["unchanged"]

    def landed() -> list[tuple[Any, ...]]:
        land_days(settings, project.landing, project.warehouse, "behavior", [D])
        raw = project.warehouse.open("raw_behavior").to_pyarrow_table(
            columns=["user_id", "behavior"]
        )
        return sorted((row["user_id"], row["behavior"]) for row in raw.to_pylist())

    assert landed() == [(one, "click") for one in sorted((user, other))]
    late = rest[1]
    client.get(f"/{late[1][0]}")  # a day that gained clicks is written, and landed, again
    assert [one.state for one in land_clicks(project, [D])] == ["written"]
    assert len(landed()) == 3
    forget(project, late[0], actor="ann")
    assert late[0].encode() not in project.landing.read_bytes(entry.path)
    assert [one.state for one in land_clicks(project, [D])] == ["unchanged"]
    assert project.landing.read_bytes(entry.path) == first
    project.store.close()


def test_a_missing_domain_stops_the_plan(database_url: str, tmp_path: Path) -> None:
    """Guards against texts with a hole where the link should be."""
    store, settings = made(tmp_path / "home", database_url, None)
    with pytest.raises(UserError, match=r"template\.link: the setting link_domain is missing"):
        plan(store, settings, crowd(settings, 5))
    changed = YAML.replace("/offer?", "/winter?")
    notes = apply_campaign(store, parse_campaign(changed), "ann").notes
    assert notes == ["template 'plain' has changed and must be reviewed again"]
    store.close()


def test_a_rehearsal_has_nobodys_links(database_url: str, tmp_path: Path) -> None:
    """Guards against rehearsed links that are those of other people's messages later."""
    store, settings = made(tmp_path / "home", database_url, ROOT)
    with_example_links(store, plan(store, settings, crowd(settings, 9)).occurrence.id)
    assert dispatch(store, settings).accepted == 9
    for line in outbox(settings):
        assert str(line["text"]).count(f"{ROOT}/{EXAMPLE}") == str(line["text"]).count(ROOT) <= 1
    assert any(EXAMPLE in str(line["text"]) for line in outbox(settings))
    store.close()
