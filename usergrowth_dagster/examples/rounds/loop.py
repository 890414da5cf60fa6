"""The loop: campaign rounds one after the other, each decided by what the earlier ones measured.

Ours and a fixed policy are run beside each other through the real chain, each in a home of its own
(``<home>`` and ``<home>/fixed-threshold``), on the same people. Each lives in the same synthetic
world with the same luck, which answers the texts that it was really sent. Before a round the days
since the last one land, what was sent among them; then our model of effects learns from both arms
of all earlier rounds, and chooses as soon as it is approved. The response model of the first round
serves all rounds of both: the fixed policy keeps to it and its threshold, ours needs it until then.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.rounds.figures import (
    Round,
    learned_models,
    measured_rounds,
    trend_of,
    true_rounds,
)
from usergrowth_dagster.examples.rounds.plan import (
    MIN_USERS,
    MOST_ROUNDS,
    TRAINING_ROWS,
    USERS,
    RoundPlan,
)
from usergrowth_dagster.examples.rounds.side import Side, open_side
from usergrowth_dagster.examples.screen import Screen
from usergrowth_dagster.learning.problems import problems
from usergrowth_dagster.learning.problems.uplift import Uplift
from usergrowth_dagster.settings import load_settings

EFFECTS = f"{Uplift.name}_model"
_USE = {f"{name}_model": "missing" for name in problems()}
_LEARN = {**_USE, EFFECTS: "always"}


def run_rounds(home: Path | None, users: int | None, campaigns: int, screen: Screen) -> list[Round]:
    """Run campaign rounds and write the last page, ``<home>/reports/rounds.html``.

    Run again, it goes on where it stopped, and with more rounds it adds to those that were; a
    finished one only writes its page again.

    Args:
        home: our home folder; the fixed policy's is inside it.
        users: users of the world; default :data:`USERS`.
        campaigns: rounds.
        screen: shows what each round came to.

    Returns:
        What each round came to.

    Raises:
        UserError: a size out of its range, a home that holds something else, or a task failed.
    """
    if not 1 <= campaigns <= MOST_ROUNDS:
        raise UserError(
            f"--campaigns {campaigns}: from 1 to {MOST_ROUNDS} rounds can be run",
            code="command.invalid",
        )
    size = USERS if users is None else users
    if size < MIN_USERS:
        raise UserError(
            f"--users {size}: rounds need at least {MIN_USERS} users to choose from",
            code="command.invalid",
        )
    root = load_settings(home).home
    plan = RoundPlan(size, campaigns, load_settings(root).seed)
    _same_world(root, plan)
    ours = open_side("ours", root, plan, plan.ours, max_training_rows=TRAINING_ROWS)
    shared = ours.project().settings.tracking_uri
    fixed = open_side(
        "fixed threshold", root / "fixed-threshold", plan, plan.fixed, mlflow_tracking_uri=shared
    )
    screen.say(
        f"{campaigns} rounds on a synthetic world of {size:,} users, {plan.day(1)} to "
        f"{plan.day(campaigns)}, home {root}\n"
    )
    seconds: dict[str, float] = {}
    for number in plan.numbers:
        began = time.perf_counter()
        with screen.progress(), _one_thread():
            outcome = _play(ours, fixed, number)
        seconds[f"round {number}"] = round(time.perf_counter() - began, 1)
        took = seconds[f"round {number}"]
        screen.say(f"round {number}, {plan.day(number)}: {outcome} ({took:.0f} s)")
    began = time.perf_counter()
    with screen.progress():
        for side in (ours, fixed):
            side.live_on(campaigns + 1)
            side.ingest(campaigns + 1)
        rounds = measured_rounds(ours, true_rounds(ours), true_rounds(fixed))
    seconds["last window and figures"] = round(time.perf_counter() - began, 1)
    _show(ours, rounds, seconds, screen)
    return rounds


def _same_world(root: Path, plan: RoundPlan) -> None:
    """Note the world of a home's rounds; refuse to go on in another one."""
    path = root / "rounds.json"
    known = {"users": plan.users, "seed": plan.seed}
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known) + "\n", encoding="utf-8")
    recorded = json.loads(path.read_text(encoding="utf-8"))
    if recorded != known:
        raise UserError(
            f"{root}: its rounds are of a world of {recorded['users']:,} users "
            f"(seed {recorded['seed']}); "
            f"go on with --users {recorded['users']}, or choose another home folder (--home)",
            code="home.exists",
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Linear algebra on one thread: the rounds' matrices are so small that more only wait."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(limits=1, user_api="blas"):
        yield


def _play(ours: Side, fixed: Side, number: int) -> str:
    """One round of both policies; says how ours was chosen."""
    outcome = ""
    for side, training in ((ours, _LEARN), (fixed, _USE)):
        if side.has_sent(number):  # by an earlier call: what went out is not decided again
            outcome = outcome or "went out before"
            continue
        side.live_on(number)
        side.ingest(number)
        report = side.decide(number, _config(training))
        if side is ours:
            outcome = _learned(report.metadata.get(EFFECTS, {}))
    return outcome


def _config(when: dict[str, str]) -> dict[str, Any]:
    return {"ops": {name: {"config": {"when": value}} for name, value in when.items()}}


def _learned(metadata: dict[str, Any]) -> str:
    """What the training of effects came to, from its metadata."""
    if "model" in metadata:
        return f"{metadata['model']}, by {metadata['champion']}"
    return "no effect can be learned yet" if metadata else "decided"


def _show(ours: Side, rounds: list[Round], seconds: dict[str, float], screen: Screen) -> None:
    """Write the page and the figures, and print them."""
    from usergrowth_dagster.examples.rounds.page import render_rounds, round_table, trend_sentence

    settings = ours.project().settings
    trend, learned = trend_of(rounds), learned_models(ours)
    sentence = trend_sentence(rounds, trend, settings.currency)
    folder = settings.home / "reports"
    folder.mkdir(exist_ok=True)
    page = folder / "rounds.html"
    page.write_text(
        render_rounds(ours.plan, rounds, trend, learned, settings.currency), encoding="utf-8"
    )
    figures = {
        "users": ours.plan.users,
        "rounds": [one.as_dict() for one in rounds],
        "trend": vars(trend) | {"sentence": sentence},
        "learned": [vars(one) for one in learned],
        "seconds": seconds,
    }
    (folder / "rounds.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    screen.say("")
    screen.table(*round_table(rounds, settings.currency))
    screen.say(f"\n{sentence}\n\nPage: {page}")
