"""The evaluation by leaving out: against plain Python, on noise, and on published sets."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.recommend.leave_one_out import Evaluation, Figures, leave_one_out
from usergrowth_dagster.recommend.sequence_file import read_sequences

DATA = Path(__file__).parents[3] / "shared" / "data" / "s3rec"


def write(path: Path, sequences: list[list[int]]) -> Path:
    """A file of sequences, where user and item n are called u<n> and x<n>."""
    lines = [f"u{n} {' '.join(f'x{item}' for item in one)}" for n, one in enumerate(sequences)]
    path.write_text("\n".join(lines) + "\n")
    return path


def walks(users: int, items: int) -> list[list[int]]:
    """Users who take one item of a ring after the other, with one of them drawn at random."""
    random = np.random.default_rng(8)
    made = []
    for _ in range(users):
        start, length = int(random.integers(items)), int(random.integers(5, 9))
        walk = [(start + step) % items for step in range(length)]
        walk[int(random.integers(length - 1))] = int(random.integers(items))
        made.append(list(dict.fromkeys(reversed(walk)))[::-1])
    return made


def by_order(figures: tuple[Figures, ...]) -> dict[str, Figures]:
    return {one.order: one for one in figures}


def test_the_figures_are_those_of_plain_python(tmp_path: Path) -> None:
    """Guards against seen items that are ranked, ties that help, another NDCG, and a leak."""
    sequences = walks(250, 45)
    path = write(tmp_path / "ring.txt", sequences)
    attributes = {f"x{item}": [item % 5, item % 5] for item in range(45)}
    (tmp_path / "ring_item2attributes.json").write_text(json.dumps(attributes))
    arguments = ["recommend", "evaluate", str(path), "--json"]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    measured = {one["order"]: one for one in document["figures"]}
    assert {"cosine kNN", "popular", "i2i", "next", "u2i", "c2i", "fused"} < set(measured)

    known = [one[:-1] for one in sequences]
    counts = np.bincount([item for one in known for item in one], minlength=45)
    together = np.zeros((45, 45))
    for one in known:
        for a in one:
            together[a, [b for b in one if b != a]] += 1
    cosine = together / np.sqrt(np.outer(counts, counts).clip(1))
    for order, score in {
        "popular": lambda one: counts.astype(float),
        "i2i": lambda one: sum(0.8**age * cosine[item] for age, item in enumerate(one[::-1])),
    }.items():
        low, high, ndcg = 0, 0, []
        for one, whole in zip(known, sequences, strict=True):
            values = np.round(score(one), 5)
            values[one] = -1
            answer = values[whole[-1]]
            before, same = (values > answer).sum(), (values == answer).sum()
            low, high = low + (before + same <= 10), high + (before < 10)
            places = [before + 1 + k for k in range(same)]
            ndcg.append(np.mean([1 / math.log2(p + 1) if p <= 10 else 0 for p in places]))
        assert low <= measured[order]["hr10"]["value"] * 250 <= high
        assert measured[order]["ndcg10"]["value"] == pytest.approx(np.mean(ndcg), abs=0.02)
    assert document["shipped"] == "ranked"
    assert measured["shipped"]["ndcg10"]["low"] > measured["i2i"]["ndcg10"]["value"]
    routes = [measured[name]["recall"]["value"] for name in ("i2i", "c2i", "popular")]
    assert max(routes) <= document["union"]["value"] <= 1
    assert {one["order"] for one in document["without"]} >= {"i2i", "c2i", "popular"}
    assert sum(one["users"] for one in document["slices"]) == 250
    assert "is shipped" in CliRunner().invoke(app, [*arguments[:-1], "--users", "60"]).stdout


def test_noise_is_not_foretold(tmp_path: Path) -> None:
    """Guards against an answer that a route, a feature or the order of items gives away."""
    random = np.random.default_rng(4)
    sequences = [random.permutation(120)[:6].tolist() for _ in range(500)]
    path = write(tmp_path / "noise.txt", [sorted(one[:5]) + one[5:] for one in sequences])
    done = leave_one_out(read_sequences(path).history, seed=1)
    for one in done.figures:
        assert one.hr10.low < 10 / 115 < one.hr10.high, one


def test_a_broken_file_is_a_sentence(tmp_path: Path) -> None:
    """Guards against a traceback, and users who count twice."""
    path = tmp_path / "a.txt"
    for text, sentence in {
        "": "a.txt: no line has a user and 3 different items",
        "1 2 3 2 3\n": "no line has a user and 3 different items",
        "1 2 3 4\n\n1 5 6 7\n": "line 3: the user '1' appears twice",
    }.items():
        path.write_text(text)
        with pytest.raises(UserError, match=sentence):
            read_sequences(path)
    path.write_text("1 a b c\n2 a b\n")
    assert read_sequences(path).short == 1
    for text, sentence in {
        "{": "a_item2attributes.json: line 1, column 2: not valid JSON",
        "[]": "an object of each item's list",
        '{"a": 3}': "a: a list of categories is expected",
    }.items():
        (tmp_path / "a_item2attributes.json").write_text(text)
        with pytest.raises(UserError, match=sentence):
            read_sequences(path)
    with pytest.raises(UserError, match=r"none\.txt: cannot be read: No such file"):
        read_sequences(tmp_path / "none.txt")


def evaluated(name: str, users: int | None = None) -> Evaluation:
    path = DATA / f"{name}.txt"
    if not path.exists():
        pytest.skip(f"the published set {name} is not there")
    return leave_one_out(read_sequences(path).history, seed=1, most=users)


def test_lastfm_reaches_what_is_known_of_it() -> None:
    """Guards against a ranker or a route that is worse than EASE, with l2 = 100, alone."""
    figures = by_order(evaluated("LastFM").figures)
    assert figures["u2i"].hr10.value == pytest.approx(0.0945, abs=0.001)
    assert figures["u2i"].ndcg10.value == pytest.approx(0.0536, abs=0.001)
    assert figures["shipped"].hr10.value >= 0.0945
    assert figures["shipped"].ndcg10.value >= 0.0536
    assert figures["popular"].hr10.value == pytest.approx(0.0440, abs=0.002)
