"""Campaigns that choose by a purchase, by sharing, by an amount, and by a lifetime value."""

from datetime import timedelta
from pathlib import Path

from chain_world import D, World, cli, copy_home, rows, succeeded, write_campaign, write_people

TRAINING = "{window_days: 100}"


def test_campaigns_choose_by_who_buys_and_by_what_they_spend(world: World, tmp_path: Path) -> None:
    """Guards against a question that trains, and whose scores no decision can rank by.

    An amount is above 1, so everything that takes a score for a probability shows here.
    """
    home = copy_home(world.decided, tmp_path / "home")
    algorithms = {
        "buyers": "{kind: purchase, behaviors: [buy], days: 14, active_days: 60}",
        "sharers": "{kind: share, behaviors: [view], days: 7}",
        "spenders": "{kind: spend, amount: amount, days: 14}",
        "worth": "{kind: ltv, amount: amount, days: 30, discount: 0.1}",
    }
    files = []
    for name, algorithm in algorithms.items():
        write_people(home, name)
        changes = {"algorithm": algorithm, "training": TRAINING, "selection": "{top_n: 15}"}
        files.append(str(write_campaign(home, name, **changes)))
    succeeded(cli(home, "apply", *(part for file in files for part in ("-f", file))))
    for name in algorithms:
        succeeded(cli(home, "review", "template", name))
    succeeded(cli(home, "run", "--date", str(D)))

    words = {
        "purchase": "chance of buying",
        "sharing": "chance of sharing",
        "spend": "expected spending",
        "ltv": "expected lifetime value",
    }
    for name, model in zip(algorithms, words, strict=True):
        decided = rows(
            home, "decisions", f"task_id = '{name}'", "outcome, score, model_name, user_id"
        )
        ranked = [row for row in decided if row[0] in ("selected", "holdout", "not_in_top_n")]
        assert {row[2] for row in ranked} == {model}
        chosen = [row[1] for row in ranked if row[0] != "not_in_top_n"]
        assert len([row for row in ranked if row[0] == "selected"]) == 15
        assert min(chosen) >= max(row[1] for row in ranked if row[0] == "not_in_top_n")
        if model in ("spend", "ltv"):
            assert max(chosen) > 1, "an amount, not a share"
        silent = {row[3] for row in decided if row[0] == "not_active"}
        within = 60 if model == "purchase" else 90
        features = rows(home, "user_features", f"ds = '{D}'", "user_id, recency_days")
        people = {row[3] for row in decided}
        known = {user: days for user, days in features if user in people}
        assert silent == {u for u, days in known.items() if days is None or days > within}
        user = next(row[3] for row in ranked if row[0] == "selected")
        page = succeeded(cli(home, "why", user, "--campaign", name))
        assert words[model] in page
        assert "equal" in succeeded(cli(home, "replay", name))
        succeeded(cli(home, "report", name))

    for table, days in (("spend_training", 14), ("ltv_training", 30)):
        ((last,),) = rows(home, table, "true", "max(ds)")
        assert last <= D - timedelta(days=days), "no label is open on the date"
