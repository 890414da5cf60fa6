"""Routes, fusion, filters and the ranker, on small worlds whose answers are known by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from usergrowth_dagster.recommend.filters import first_items
from usergrowth_dagster.recommend.history import History, empty_history, history_of
from usergrowth_dagster.recommend.learned import Learned, features, learn
from usergrowth_dagster.recommend.ranker import FUSED, RANKED, Order, answer_places, choose_order
from usergrowth_dagster.recommend.recall import Candidates, recall
from usergrowth_dagster.recommend.recommender import Recommender
from usergrowth_dagster.recommend.routes.categories import learn_categories
from usergrowth_dagster.recommend.routes.latent import learn_latent
from usergrowth_dagster.recommend.routes.neighbours import learn_neighbours
from usergrowth_dagster.recommend.routes.popular import learn_new, learn_popular


def history(
    sequences: list[list[int]], items: int, ages: list[list[float]] | None = None
) -> History:
    """The history of sequences; item n has the category n % 2."""
    user = np.repeat(np.arange(len(sequences)), [len(one) for one in sequences])
    item = np.array([item for one in sequences for item in one], dtype=np.int64)
    age = np.array([a for one in ages or [] for a in one] or [0] * len(item), dtype=np.float32)
    has = sparse.csr_matrix((np.ones(items, np.float32), (range(items), np.arange(items) % 2)))
    return history_of(user, item, age, len(sequences), has)


@given(
    st.lists(st.lists(st.integers(0, 7), max_size=9), min_size=1, max_size=6),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_a_history_is_that_of_plain_lists(sequences: list[list[int]], last: int) -> None:
    """Guards against rows of the wrong user, a repeated item at its oldest, and a cut one off."""
    plain = [list(dict.fromkeys(reversed(one)))[::-1] for one in sequences]
    made = history(sequences, 8)
    assert [made.item[made.user == n].tolist() for n in range(len(plain))] == plain
    cut = made.before(last)
    assert [cut.item[cut.user == n].tolist() for n in range(len(plain))] == [
        one[: len(one) - last] if len(one) > last else [] for one in plain
    ]
    assert made.newest(last).tolist() == [
        one[-1 - last] if len(one) > last else -1 for one in plain
    ]
    rows = np.arange(len(plain))[::-1]
    some = made.of_users(rows)
    assert [some.item[some.user == n].tolist() for n in range(len(plain))] == plain[::-1]


def test_neighbours_are_cosines_of_decayed_histories() -> None:
    """Guards against another norm, a decay from the wrong end, and an item that is its own."""
    world = history([[0, 1], [0, 1, 2], [1, 2], [3]], 4)
    route = learn_neighbours(world, decay=0.5)
    near = route.near.toarray()
    assert near[0, 1] == pytest.approx(2 / np.sqrt(2 * 3)) and near[0, 0] == near[3].sum() == 0
    scores = route.scores(world.of_users(np.array([1])))[0]
    assert scores[1] == pytest.approx(0.25 * near[0, 1] + near[2, 1])
    apart = learn_neighbours(world, span=0.5).near.toarray()
    assert apart[0, 2] == pytest.approx(0.5 * near[0, 2]) and apart[0, 1] == pytest.approx(
        near[0, 1]
    )
    assert apart == pytest.approx(apart.T)
    assert np.diff(learn_neighbours(world, nearest=1).near.indptr).max() == 1


def test_weights_are_those_of_a_ridge_regression_without_the_item_itself() -> None:
    """Guards against weights that copy the item, and a closed form that solves something else."""
    random = np.random.default_rng(3)
    world = history([random.permutation(12)[:5].tolist() for _ in range(80)], 12)
    weights = learn_latent(world, seed=1, ridge=7.0).weights
    taken = world.taken.toarray().astype(float)
    for item in (0, 5):
        others = np.arange(12) != item
        x = taken[:, others]
        solved = np.linalg.solve(x.T @ x + 7 * np.eye(11), x.T @ taken[:, item])
        assert weights[others, item] == pytest.approx(solved, abs=1e-4)
        assert weights[item, item] == 0
    assert learn_latent(world, seed=1, most=11).kind == "SVD"
    close = learn_latent(world, seed=1, most=11).scores(world)
    assert np.corrcoef(close.ravel(), taken.ravel())[0, 1] > 0.9


def test_popular_and_new_and_categories_look_at_what_is_recent() -> None:
    """Guards against counts that never fade, old items as new ones, and the wrong category."""
    world = history([[0, 1], [0, 1], [0, 2], [3, 4]], 6, [[300, 200], [310, 5], [300, 2], [90, 1]])
    counts = learn_popular(world).weights
    assert counts.argmax() == 4 and counts[0] < counts[2] and counts[5] == 0
    new = learn_new(world)
    assert new is not None and np.flatnonzero(new.weights).tolist() == [2, 4]
    assert learn_new(history([[0, 1, 2]], 6)) is None
    scores = learn_categories(world).scores(world.of_users(np.array([2])))[0]
    assert scores.argmax() == 4 and scores[[0, 2, 4]].min() > 0 == scores[[1, 3, 5]].max()


def test_recall_leaves_out_what_may_not_be_shown_before_it_counts() -> None:
    """Guards against seen or barred items that use up the quota, and a wrong place or route."""
    world = history([[0, 1, 2], [0, 1, 3], [1, 3, 4], [0, 4], [5, 4]], 8)
    learned = learn(world, seed=1)
    barred = np.arange(8) == 4
    candidates = recall(learned.routes, world, quota=2, barred=barred, seed=1)
    taken = world.taken.toarray()
    assert not taken[candidates.user, candidates.item].any() and 4 not in candidates.item
    assert candidates.place.max() == 2 and (candidates.place > 0).any(axis=1).all()
    for column, route in enumerate(learned.routes):
        full = route.scores(world)
        full[taken > 0], full[:, barred] = -np.inf, -np.inf
        for user in range(world.users):
            rows = (candidates.user == user) & (candidates.place[:, column] > 0)
            best = np.sort(full[user][full[user] > 0])[::-1][:2]
            assert np.sort(candidates.score[rows, column])[::-1] == pytest.approx(best)
    fused = sum(1 / (60 + candidates.place[0, k]) for k in np.flatnonzero(candidates.place[0]))
    assert candidates.fused()[0] == pytest.approx(fused)


def test_a_list_has_its_cap_and_its_length() -> None:
    """Guards against a cap that counts items behind the list, or that mixes up users."""
    user = np.repeat([0, 1], 5)
    item = np.tile(np.arange(5), 2)
    scores = np.array([5, 4, 3, 2, 1, 1, 2, 3, 4, 5], dtype=np.float32)
    some = Candidates(user, item, np.ones((10, 1), int), scores[:, None], ("x",))
    group = np.array([7, 7, 7, 8, -1])
    first = first_items(some, scores, 3, group, 1)
    assert [(user[row], item[row]) for row in first] == [
        (0, 0), (0, 3), (0, 4), (1, 4), (1, 3), (1, 2),
    ]  # fmt: skip
    assert item[first_items(some, scores, 2, group)].tolist() == [0, 1, 4, 3]


def test_places_of_answers_part_ties_in_the_middle() -> None:
    """Guards against an answer that wins all ties, and one that is nowhere and still counts."""
    some = Candidates(
        np.array([0, 0, 0, 1, 2]), np.array([1, 2, 3, 1, 1]),
        np.ones((5, 1), int), np.ones((5, 1), np.float32), ("x",),
    )  # fmt: skip
    scores = np.array([1, 1, 1, 2, 3], dtype=np.float32)
    assert answer_places(some, scores, np.array([1, 5, 1])).tolist() == [2, 0, 1]


@pytest.fixture(scope="module")
def chained() -> History:
    """A world in which the next item follows from the newest: n is followed by n + 1 of a ring."""
    random = np.random.default_rng(5)
    sequences = []
    for _ in range(400):
        start, length = int(random.integers(60)), int(random.integers(4, 9))
        walk = [(start + step) % 60 for step in range(length)]
        walk[random.integers(length - 1)] = int(random.integers(60))
        sequences.append(walk)
    return history(sequences, 60)


def ordered(world: History) -> tuple[Learned, Order]:
    """The routes of all but two items of each user, and the order chosen on the first of them."""
    early = world.before(2)
    learned = learn(early, seed=2)
    return learned, choose_order(learned, early, world.newest(1), seed=2)


def test_a_ranker_is_shipped_where_it_beats_the_routes_and_not_else(chained: History) -> None:
    """Guards against a ranker that ships unproven, and one that does not learn what follows."""
    _, order = ordered(chained)
    assert order.name == RANKED and order.tried[RANKED] > 1.1 * max(
        value for name, value in order.tried.items() if name != RANKED
    )
    random = np.random.default_rng(6)
    noise = history([random.permutation(200)[:5].tolist() for _ in range(40)], 200)
    _, order = ordered(noise)
    assert order.booster is None and order.name != RANKED and RANKED not in order.tried


def recommender(world: History, order: Order, barred: list[int], cap: int | None) -> Recommender:
    """A recommender of all that a world knows; user n is ``u<n>`` and item n is ``i<n>``."""
    mask = np.isin(np.arange(world.items), barred)
    users = tuple(f"u{n}" for n in range(world.users))
    items = tuple(f"i{n}" for n in range(world.items))
    return Recommender(
        users, items, world, learn(world, seed=2), order, mask, np.arange(world.items) % 2, cap, 2
    )


def test_one_user_gets_what_everyone_gets_together(chained: History) -> None:
    """Guards against a list that depends on who is asked beside, and filters that only one has."""
    _, order = ordered(chained)
    made = recommender(chained, order, [7], 3)
    together: dict[str, list[str]] = {}
    for lists in made.everyone(5):
        for user, item in zip(lists.user_id, lists.item_id, strict=True):
            together.setdefault(user, []).append(item)
    assert len(together) == chained.users + 1
    for user in ("u0", "u17", "u399"):
        alone = made.recommend(user, 5)
        assert [one.item_id for one in alone] == together[user]
        assert all(one.routes for one in alone)
        seen = {f"i{n}" for n in chained.item[chained.user == int(user[1:])]}
        assert not seen & set(together[user]) and "i7" not in together[user]
        assert max(np.bincount([int(one.item_id[1:]) % 2 for one in alone])) <= 3
        without = made.recommend(user, 5, exclude=[alone[0].item_id, "unknown"])
        assert alone[0].item_id not in {one.item_id for one in without}
    fused = Order(FUSED, None, {})
    assert made.recommend("u1", 5, order="fused") == recommender(chained, fused, [7], 3).recommend(
        "u1", 5
    )


def test_a_new_user_gets_what_everybody_takes(chained: History) -> None:
    """Guards against a ranker that orders items for users of a kind that it never saw."""
    _, order = ordered(chained)
    made = recommender(chained, order, [], None)
    counts = np.bincount(chained.item, minlength=60)
    got = [int(one.item_id[1:]) for one in made.recommend("nobody", 10)]
    assert sorted(counts[got]) == sorted(np.sort(counts)[::-1][:10])
    assert {one.routes for one in made.recommend("nobody", 10)} == {("popular",)}


def test_a_world_of_one_item_recalls_it_or_nothing() -> None:
    """Guards against a traceback where a home's first day has one item, or a user took all."""
    one = history([[0], [0]], 1)
    learned = learn(one, seed=1)
    candidates = recall(learned.routes, one)
    assert not len(candidates.user) and features(learned, one, candidates).shape[0] == 0
    nobody = recall(learned.routes, empty_history(one.categories, users=2))
    assert nobody.item.tolist() == [0, 0]
