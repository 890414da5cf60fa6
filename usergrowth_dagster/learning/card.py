"""The model card: one markdown page on what a version is, how good, for whom, and its limits.

It follows Mitchell et al. 2019, *Model Cards for Model Reporting*, and is written from the summary
of :func:`registry.summarize` alone, so that it says nothing that is not on record.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.problems.base import Problem

Summary = Mapping[str, Any]
Figure = Mapping[str, float | None] | None
SHOWN = 15  # features
METRICS = {
    "auc": "AUC: a positive is ranked above a negative",
    "pr_auc": "average precision",
    "log_loss": "log-loss",
    "ece": "calibration error, bins of equal width",
    "ace": "calibration error, bins of equal size",
    "auc_within": "AUC within each campaign",
}


def write_card(summary: Summary) -> str:
    """The whole card of a version."""
    sections = (
        _title(summary),
        _made_from(summary),
        _gates(summary),
        _figures(summary),
        _yardsticks(summary),
        _calibration(summary),
        _features(summary),
        _parts(summary),
        _drift(summary),
        _limits(summary),
        _review(),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def headline(summary: Summary, status: str) -> str:
    """The card in short, for a version's description: question, gates, main figures."""
    failed = [g for g in summary["gates"] if not g["passed"]]
    champion = summary["metrics"][summary["champion"]]
    lines = [
        f"**{question(summary)}** Registered as *{status.replace('_', ' ')}*.",
        f"AUC {interval(champion['auc'])}, log-loss {interval(champion['log_loss'])}; the top 40 % "
        f"hold {interval(champion['capture_40'], percent=True)} of the positives.",
        *(f"Gate **{g['name']}** failed: {g['reason']}." for g in failed),
        summary["sentence"],
        "The whole card is the run's artifact `model_card.md`. To approve or reject: set the tag "
        "`status` to `approved` or `rejected` here, with the reason in the tag `why`.",
    ]
    return "\n\n".join(lines)


def problem_of(summary: Summary) -> Problem:
    """The question of a version, with its settings."""
    return TrainingConfig.model_validate(summary["config"]).problem


def question(summary: Summary) -> str:
    """What the version answers, in one sentence."""
    return problem_of(summary).question()


def interval(figure: Figure, *, percent: bool = False, digits: int = 3) -> str:
    """A figure with its interval, or why there is none."""
    if not figure or figure["value"] is None:
        return "–"
    value, low, high = figure["value"], figure["low"], figure["high"]

    def text(number: float) -> str:
        return f"{number:.1%}" if percent else f"{number:.{digits}f}"

    if low is None or high is None:
        return f"{text(value)} (no interval: too few users)"
    return f"{text(value)} [{text(low)}, {text(high)}]"


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; bars within a cell would end it."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += [
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows
    ]
    return "\n".join(lines)


def _title(summary: Summary) -> str:
    kinds = {
        "recency": "days since the last behavior alone, a baseline",
        "rfm": "logistic regression on recency, frequency and money, a baseline",
        "logistic": "logistic regression on one-hot features",
        "lightgbm": "LightGBM",
        "blend": "the mean of the log-odds of a logistic regression and LightGBM",
    }
    kind = kinds[summary["champion"]]
    return (
        f"# Model card: {summary['algorithm']}, trained as of {summary['execution_date']}\n\n"
        f"**{question(summary)}** The score is that probability, calibrated.\n\n"
        f"Kind of model: {kind}. {summary['sentence']}"
    )


def _made_from(summary: Summary) -> str:
    slices, rows, sample = summary["slices"], summary["rows"], summary.get("sample")
    shares = (
        sample["shares"] if sample else {n: r["positives"] / r["rows"] for n, r in rows.items()}
    )
    lines = [
        (
            name,
            f"{days['first']} to {days['last']} ({days['days']} days)",
            f"{rows[name]['rows']:,}",
            f"{rows[name]['positives']:,}",
            f"{shares[name]:.1%}",
        )
        for name, days in slices.items()
    ]
    who = problem_of(summary).words.rows
    versions = summary["data_versions"].items()
    tables = ", ".join(f"{name} {number}" for name, number in versions) or "not recorded"
    warnings = "".join(f"\n\nNote: {warning}." for warning in summary["warnings"])
    return (
        f"## What it learned from\n\nPopulation: {who}. The last day that any label looked at is "
        f"{summary['last_label_day']}; it scores dates after that day only.\n\n"
        + markdown(("slice", "days", "rows", "positives", "share"), lines)
        + _sampled(sample)
        + f"\n\nThe test slice has {summary['test']['users']:,} users. Every interval on this page "
        "is a 95 % bootstrap interval over whole users.\n\n"
        f"Table versions: {tables}. Code {summary['code_version'] or 'not recorded'}, label "
        f"{summary['config_hash']}." + warnings
    )


def _sampled(sample: Mapping[str, Any] | None) -> str:
    """That the rows are a sample, if they are one."""
    if not sample:
        return ""
    return (
        f"\n\nThese {sample['kept']:,} rows are a sample of {sample['rows']:,}, drawn by user with "
        "the same number of each day and label where there are enough. Models are fitted, "
        "calibrated and judged with weights that restore the shares of all rows; the column share "
        "is that of all."
    )


def _gates(summary: Summary) -> str:
    lines = [
        (gate["name"], "passed" if gate["passed"] else "**failed**", gate["reason"])
        for gate in summary["gates"]
    ]
    return "## Gates\n\n" + markdown(("gate", "", "why"), lines)


def _figures(summary: Summary) -> str:
    metrics = summary["metrics"]
    first = summary["champion"]
    names = [first, *(name for name in metrics if name != first)]
    lines = [
        (meaning, *(interval(metrics[name].get(metric)) for name in names))
        for metric, meaning in METRICS.items()
        if metric in metrics[first]
    ]
    header = ("on the test slice", *(f"**{n}**" if n == first else n for n in names))
    return (
        "## How good it is\n\nBold is this version; beside it stand the other candidates and what "
        "anyone could do without a model.\n\n" + markdown(header, lines)
    )


def _yardsticks(summary: Summary) -> str:
    lines = [
        (
            f"{gain['share']} %",
            f"{gain['rows']:,}",
            interval(gain["capture"], percent=True),
            interval(gain["lift"], digits=2),
            interval(gain["response"], percent=True),
            interval(gain["rest"], percent=True),
        )
        for gain in summary["gains"]
    ]
    forty = next(gain for gain in summary["gains"] if gain["share"] == 40)
    word = problem_of(summary).words.came_true
    return (
        "## Capture and lift\n\n"
        f"The top 40 % by score hold {interval(forty['capture'], percent=True)} of the positives. "
        f"{interval(forty['response'], percent=True)} of them {word}, and "
        f"{interval(forty['rest'], percent=True)} of the others: "
        f"{_points(forty['difference'])} percentage points more, or "
        f"{interval(forty['ratio'], digits=2)} times as many. These are the figures that vendors "
        "quote. They tell how well people are ranked, **not what a text changes**: only a control "
        "group tells that.\n\n"
        + markdown(
            ("top", "rows", "capture", "lift", "share among them", "share among the rest"), lines
        )
    )


def _points(figure: Figure) -> str:
    """A difference of shares in percentage points."""
    hundred = {k: None if v is None else 100 * v for k, v in figure.items()} if figure else None
    return interval(hundred, digits=1)


def _calibration(summary: Summary) -> str:
    lines = [
        (f"{b['rows']:,.0f}", f"{b['mean_score']:.1%}", f"{b['share']:.1%}")
        for b in summary["reliability"]
    ]
    params = summary["params"][summary["champion"]]
    on = f", fitted on the {params['calibrated_on']}" if "calibrated_on" in params else ""
    return (
        f"## Calibration\n\nMap: {params.get('calibration', 'none')}{on}. Test rows by tenth of "
        "the score, the highest first:\n\n"
        + markdown(("rows", "score", "came true"), lines)
        + _upkeep(summary)
    )


def _upkeep(summary: Summary) -> str:
    """How the test slice would have fared with other maps; empty for a version without it."""
    upkeep = summary.get("upkeep")
    if not upkeep:
        return ""
    names = ("log_loss", "ece", "ace")
    lines = [(way, *(interval(figures[name]) for name in names)) for way, figures in upkeep.items()]
    return (
        "\n\nThe version scores with its map fitted again on all labels closed by "
        f"{summary['execution_date']}, the test slice included. What that habit is worth shows "
        "within the test slice, each stretch scored by what was known on its first morning:\n\n"
        + markdown(("", *(METRICS[name] for name in names)), lines)
        + "\n\nThe last is the setting `refresh_level_days`: scoring then moves the level to the "
        "newest closed labels. It pays where activity rises or falls for weeks."
    )


def _features(summary: Summary) -> str:
    directions = summary["directions"]
    lines = [
        (f"`{name}`", f"{weight:.3f}", directions.get(name, ""))
        for name, weight in list(summary["importance"].items())[:SHOWN]
    ]
    return (
        f"## What it leans on\n\nThe {len(lines)} strongest of {summary['features']} features. The "
        "weight is the standard deviation of the feature's part in the score, in logits. The "
        "direction says what the model does, not what causes what.\n\n"
        + markdown(("feature", "weight", "direction"), lines)
    )


def _parts(summary: Summary) -> str:
    if not summary["parts"]:
        return "## For whom\n\nNone of tenure, activity and user type is known of these users."
    lines = []
    for part in summary["parts"]:
        figures: tuple[Any, ...] = (part["note"], "", "", "", "")
        if not part["note"]:
            figures = (
                interval(part["share"], percent=True),
                interval(part["bias"], percent=True),
                interval(part["auc"]),
                interval(part["log_loss"]),
                interval(part["capture_40"], percent=True),
            )
        name = f"{part['dimension']} (`{part['column']}`): {part['name']}"
        lines.append((name, f"{part['rows']:,}", f"{part['positives']:,}", *figures))
    header = ("part", "rows", "positives", "share", "bias", "AUC", "log-loss", "top 40 % hold")
    return (
        "## For whom\n\nNumbers are cut at the terciles of the train slice. Bias is the mean score "
        "less what came true: above 0 it promises too much.\n\n" + markdown(header, lines)
    )


def _drift(summary: Summary) -> str:
    drift = summary["drift"]
    lines = [
        (f"`{s['feature']}`", f"{s['psi']:.3f}", f"{s['chance']:.3f}", s["level"])
        for s in drift["shifts"]
        if s["level"] != "same" or s["feature"] == "score"
    ][:SHOWN]
    table = markdown(("", "index", "chance gives up to", ""), lines) if lines else ""
    return (
        "## Drift from the train to the test slice\n\n"
        f"{drift['sentence'][0].upper()}{drift['sentence'][1:]}. The index is the population "
        f"stability index.\n\n{table}"
    )


def _limits(summary: Summary) -> str:
    return (
        "## Limits\n\n"
        f"* {problem_of(summary).words.limit} For that there is the uplift model, and the "
        "campaign's control group.\n"
        "* It knows people like those above, on days like those above. A new kind of user, a "
        "price change or a holiday that the train slice lacks is beyond it; the drift check of "
        "each scored population warns.\n"
        "* The leakage gate cannot see a leak that tells less than its bound, one that is spread "
        "thinly over many columns, or one that shows only in combination with another.\n"
        "* The figures are of one stretch of days. They were looked at to choose among the kinds "
        "of model, so the chosen one's are a little too good.\n"
        "* Parts of users without figures were too small to be judged: nothing is known of how "
        "well it serves them."
    )


def _review() -> str:
    return (
        "## Who decides\n\n"
        "The newest version with the status `approved` whose last label day lies before a date "
        "scores that date. `usergrowth models approve | reject | rollback` change the status, with "
        "a reason where gates are overruled. In MLflow's pages the same is done by the version's "
        "tag `status` (and `why`), or by moving the alias `champion`: the version it points at is "
        "approved, and later ones of the same label are retired."
    )
