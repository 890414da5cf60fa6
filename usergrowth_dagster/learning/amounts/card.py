"""The model card of a version of amounts: one markdown page, written from its summary alone."""

from collections.abc import Mapping
from typing import Any

from usergrowth_dagster.learning.amounts.candidates import NAMES
from usergrowth_dagster.learning.card import interval, markdown, problem_of, question

SHOWN = 15  # features
METRICS = {
    "gini": "normalized Gini: 1 is the true order, 0 a random one",
    "spearman": "rank correlation (Spearman)",
    "decile_error": "share of all amounts promised in the wrong tenth",
    "bias": "sum of the predictions over that of the amounts, less 1",
    "deviance": "mean Tweedie deviance, the less the better",
    "capture_10": "share of all amounts in the top 10 %",
    "capture_20": "share of all amounts in the top 20 %",
    "capture_40": "share of all amounts in the top 40 %",
}
PERCENT = ("decile_error", "bias", "capture_10", "capture_20", "capture_40")


def write_amounts_card(summary: Mapping[str, Any]) -> str:
    """The whole card of a version."""
    sections = (
        _title(summary),
        _made_from(summary),
        _gates(summary),
        _figures(summary),
        _deciles(summary),
        _features(summary),
        _limits(summary),
    )
    return "\n\n".join(sections) + "\n"


def amounts_headline(summary: Mapping[str, Any], status: str) -> str:
    """The card in short, for a version's description: question, gates, main figures."""
    failed = [g for g in summary["gates"] if not g["passed"]]
    champion = summary["metrics"][summary["champion"]]
    lines = [
        f"**{question(summary)}** Registered as *{status.replace('_', ' ')}*.",
        f"Normalized Gini {interval(champion['gini'])}, the tenths are off by "
        f"{interval(champion['decile_error'], percent=True)} of all amounts; the top 40 % hold "
        f"{interval(champion['capture_40'], percent=True)} of all amounts.",
        *(f"Gate **{g['name']}** failed: {g['reason']}." for g in failed),
        summary["sentence"],
    ]
    return "\n\n".join(lines)


def _title(summary: Mapping[str, Any]) -> str:
    return (
        f"# Model card: {summary['algorithm']}, trained as of {summary['execution_date']}\n\n"
        f"**{question(summary)}** The score is that amount, as the mean of users like this one.\n\n"
        f"Kind of model: {NAMES[summary['champion']]}. {summary['sentence']}"
    )


def _made_from(summary: Mapping[str, Any]) -> str:
    lines = []
    for name, days in summary["slices"].items():
        rows = summary["rows"][name]
        lines.append(
            (
                name,
                f"{days['first']} to {days['last']} ({days['days']} days)",
                f"{rows['rows']:,}",
                f"{rows['positives'] / rows['rows']:.1%}",
                f"{rows['amount'] / rows['rows']:,.2f}",
            )
        )
    tables = ", ".join(f"{name} {number}" for name, number in summary["data_versions"].items())
    return (
        f"## What it learned from\n\nPopulation: {problem_of(summary).words.rows}. The last day "
        f"that any label looked at is {summary['last_label_day']}; it scores dates after that day "
        "only.\n\n"
        + markdown(("slice", "days", "rows", "with an amount", "mean amount"), lines)
        + f"\n\nThe test slice has {summary['test']['users']:,} users. Every interval on this page "
        f"is a 95 % bootstrap interval over whole users.\n\nTable versions: "
        f"{tables or 'not recorded'}. Code {summary['code_version'] or 'not recorded'}, label "
        f"{summary['config_hash']}."
        + "".join(f"\n\nNote: {warning}." for warning in summary["warnings"])
    )


def _gates(summary: Mapping[str, Any]) -> str:
    lines = [
        (gate["name"], "passed" if gate["passed"] else "**failed**", gate["reason"])
        for gate in summary["gates"]
    ]
    return "## Gates\n\n" + markdown(("gate", "", "why"), lines)


def _figures(summary: Mapping[str, Any]) -> str:
    metrics, first = summary["metrics"], summary["champion"]
    names = [first, *(name for name in metrics if name != first)]
    lines = [
        (meaning, *(interval(metrics[n].get(metric), percent=metric in PERCENT) for n in names))
        for metric, meaning in METRICS.items()
    ]
    header = ("on the test slice", *(f"**{n}**" if n == first else n for n in names))
    return (
        "## How good it is\n\nBold is this version; beside it stand the other candidates, among "
        "them the past average, which needs no model.\n\n" + markdown(header, lines)
    )


def _deciles(summary: Mapping[str, Any]) -> str:
    lines = [
        (place, f"{one['rows']:,.0f}", f"{one['predicted']:,.2f}", f"{one['real']:,.2f}")
        for place, one in enumerate(summary["deciles"], 1)
    ]
    return "## By tenth of the prediction, the highest first\n\n" + markdown(
        ("tenth", "rows", "predicted", "as it was"), lines
    )


def _features(summary: Mapping[str, Any]) -> str:
    lines = [
        (f"`{name}`", f"{share:.1%}") for name, share in list(summary["importance"].items())[:SHOWN]
    ]
    return (
        f"## What it leans on\n\nThe {len(lines)} strongest of {summary['features']} features, by "
        "their share of what all splits gain. It says what the model does, not what causes what."
        "\n\n" + markdown(("feature", "share"), lines)
    )


def _limits(summary: Mapping[str, Any]) -> str:
    return (
        "## Limits\n\n"
        f"* {problem_of(summary).words.limit} For that there is the campaign's control group.\n"
        "* It predicts a mean: the amount of one person may be far from it.\n"
        "* It knows people like those above, on days like those above. A season or a price change "
        "that the train slice lacks is beyond it; the drift check of each scored population warns."
        "\n* The figures are of one stretch of days. They were looked at to choose among the kinds "
        "of model, so the chosen one's are a little too good."
    )
