"""The model card of a version of ``uplift``: one markdown page, written from its summary alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from usergrowth_dagster.learning.card import interval
from usergrowth_dagster.ranks import UPLIFT

SHOWN = 15  # features
LIMITS = """## Limits

- An effect is learned from rounds past, on the people who could be chosen then; for others it is
  a guess.
- A person's own effect is never seen, so figures are of many people: of a decile, of a ranking.
- Rows count by the inverse of their recorded chance. A draw of which one arm did not land, or whose
  chances were recorded wrongly, spoils them; the gate `sample_ratio` finds only what is large.
- What the user's own touches were is not learned from, though it may matter to the effect: where
  the same people are held out in every round it tells the arm instead. The gate `assignment`
  looks for other features that do. Behavior that earlier texts caused is such a feature too, a
  weak one; a control group that is drawn anew (`holdout.rotate_days`) has less of it.
- Treated rows are the messages that the provider accepted, dated the day they were sent; held-out
  rows are everyone who was held out, dated the day they were due. Where many messages are not
  accepted, or go out days later, the arms are not quite alike.
- Someone held out by this campaign may have been texted by another: effects are those of this text
  on top of all else that went on."""


def write_uplift_card(summary: Mapping[str, Any]) -> str:
    """The whole card of a version."""
    sections = (
        f"# uplift, {summary['execution_date']}\n\n{_question(summary['config'])}\n\n"
        f"{summary['sentence']}",
        _made_from(summary),
        _gates(summary),
        _rankings(summary),
        _deciles(summary),
        _features(summary),
        LIMITS,
    )
    return "\n\n".join(sections) + "\n"


def _question(config: Mapping[str, Any]) -> str:
    kinds = config["return_behaviors"]
    what = f"a behavior of the kind {', '.join(kinds)}" if kinds else "any behavior"
    item = " on the touched item" if config["return_on_item"] else ""
    start = "on the day of the text or " if config.get("same_day") else ""
    return (
        f"By how much does a text ({config['op_target'] or 'of any kind'}) raise a person's chance "
        f"to show {what}{item} {start}within the {config['return_days']} days after it?"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _made_from(summary: Mapping[str, Any]) -> str:
    rows = []
    for name, days in summary["slices"].items():
        own = summary["rows"][name]
        rows.append(
            [
                name,
                f"{days['first']} to {days['last']} ({days['days']} days)",
                *(
                    f"{own[arm]['returns']:,} of {own[arm]['rows']:,}"
                    for arm in ("treated", "control")
                ),
            ]
        )
    left = summary["left_out"]
    return (
        "## Made from\n\n"
        + _table(("slice", "days", "treated who returned", "held out who returned"), rows)
        + f"\n\nLeft out: {left['unknown_touched']:,} touches and {left['unknown_held_out']:,} "
        f"people held out without a recorded chance, {left['certain']:,} who could have been in "
        f"one arm only. {summary['features']} features; code {summary['code_version']}."
    )


def _gates(summary: Mapping[str, Any]) -> str:
    rows = [
        [g["name"], "passed" if g["passed"] else "**failed**", g["reason"]]
        for g in summary["gates"]
    ]
    return "## Gates\n\n" + _table(("gate", "", "why"), rows)


def _rankings(summary: Mapping[str, Any]) -> str:
    fitted = {f["name"]: f for f in summary["choice"]}
    metrics = summary["metrics"]
    order = sorted(metrics, key=lambda name: -(metrics[name]["qini"]["value"] or 0))
    rows = []
    for name in order:
        known = fitted.get(summary["champion"] if name == "chosen" else name)
        figures = metrics[name]
        rows.append(
            [
                name,
                f"{known['qini']:.4f} ± {known['error']:.4f}" if known else "–",
                interval(figures["qini"]),
                interval(figures["auuc"]),
                interval(figures["uplift_top_20"], percent=True),
            ]
        )
    head = ("ranking", "cross-fitted Qini", "Qini later", "AUUC later", "effect in the top 20 %")
    return (
        "## Rankings\n\nWhere it was learned (mean ± standard error over held-out users), and on "
        "later days with 95 % intervals. `chosen` is what this version scores by, `random` is "
        "drawn anew for each resample.\n\n" + _table(head, rows)
    )


def _deciles(summary: Mapping[str, Any]) -> str:
    rows = [
        [
            str(d["place"]),
            f"{d['treated']:,}",
            f"{d['control']:,}",
            "–" if d["predicted"] is None else f"{d['predicted']:+.1%}",
            interval(d[UPLIFT], percent=True),
        ]
        for d in summary["deciles"]
    ]
    calibration = summary["calibration"]
    return (
        "## Effect by decile, on later days\n\n"
        + _table(("decile", "treated", "held out", "predicted", "measured"), rows)
        + f"\n\nThe mean gap is {calibration['error']:.1%}; a true prediction would show about "
        f"{calibration['by_chance']:.1%} by chance. For each point of predicted difference "
        f"{interval(calibration['slope'])} are measured."
    )


def _features(summary: Mapping[str, Any]) -> str:
    rows = [[f"`{name}`", f"{weight:+.2f}"] for name, weight in list(summary["importance"].items())]
    return (
        "## Features\n\nRank correlation with the predicted effect: + where those with more of it "
        "gain more.\n\n" + _table(("feature", "correlation"), rows[:SHOWN])
    )
