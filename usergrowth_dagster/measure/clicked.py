"""The way of each arm's people through a task's texts: from its outcomes, who clicked."""

from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.effects.clicks import (
    CONTROL,
    EXPLORED,
    TextArm,
    TextFate,
    build_paths,
)
from usergrowth_dagster.effects.report.funnel import Fate
from usergrowth_dagster.effects.result import ClickPaths, Effect
from usergrowth_dagster.effects.rows import called
from usergrowth_dagster.messaging.schedules.occurrences import occurrences_of
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation

_WHOLE = "treatment"


def click_paths(
    engine: Engine, project: Project, task: Task, measured: Relation, effect: Effect
) -> ClickPaths | None:
    """The way of each arm's people; None where no text of the task has a link.

    Args:
        engine: holds the outcomes.
        project: the home.
        task: a decided task.
        measured: its outcomes.
        effect: what was measured of it.
    """
    linked = _linked(project, task)
    if not any(linked.values()):
        return None
    fates = _fates(engine, measured, several=len(linked) > 1)
    arms = _arms(task, linked, {one.arm for one in fates})
    return build_paths(
        arms,
        fates,
        complete=effect.complete,
        landed=effect.counted_until is not None,
        level=effect.level,
    )


def _linked(project: Project, task: Task) -> dict[str, bool]:
    """Whether each text has a link: as it was planned, or else as the campaign says."""
    texts = {text.name: text.link is not None for text in task.spec.template.texts}
    for opened in occurrences_of(project.store, task.task_id):
        if opened.variants is None:
            return {task.spec.template.name: opened.link is not None}
        texts |= {name: text.get("link") is not None for name, text in opened.variants.items()}
    return texts


def _arms(task: Task, linked: dict[str, bool], present: set[str]) -> list[TextArm]:
    """The texts that people were drawn for, those drawn at random, and the control group."""
    spec = task.spec
    channels = spec.channel_by_text
    if len(linked) > 1:
        arms = [
            TextArm(called(name), channels.get(name, spec.channel), has)
            for name, has in sorted(linked.items())
        ]
        arms = [arm for arm in arms if arm.name in present]
    else:
        arms = [TextArm(_WHOLE, spec.channel, True)]
    if EXPLORED in present:
        arms.append(TextArm(EXPLORED, " or ".join(spec.channels), True))
    return [*arms, TextArm(CONTROL, None, False)]


def _fates(engine: Engine, measured: Relation, *, several: bool) -> list[TextFate]:
    """What became of everybody's text and link, alike people together."""
    rows = engine.rows(
        "select outcome, variant, message_state, message_reason, sent, "
        "coalesce(clicked, false), coalesce(seen_by_bots, false), count(*), "
        f"count(*) filter (where returned) from {measured} "
        "where outcome in ('selected', 'explored', 'holdout') group by all order by all"
    )
    fates = []
    for outcome, variant, state, reason, sent, clicked, bots, people, returned in rows:
        arm = called(str(variant)) if several else _WHOLE
        arm = {"holdout": CONTROL, "explored": EXPLORED}.get(str(outcome), arm)
        fate = Fate(state, reason, bool(sent), int(people), int(returned))
        fates.append(TextFate(arm, fate, bool(clicked), bool(bots)))
    return fates
