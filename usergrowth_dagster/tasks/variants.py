"""The texts of a task's campaign, and which of them each person is given."""

import json

from usergrowth_dagster.audience.holdout import epoch_in_force
from usergrowth_dagster.audience.variants import VariantDraw, variant_sql
from usergrowth_dagster.control.tasks import Task


def contents_of(task: Task) -> dict[str, str]:
    """The templates of a task's campaign, by name of text."""
    return {text.name: text.content for text in task.spec.template.texts}


def variant_draw(task: Task) -> VariantDraw | None:
    """How the texts are drawn on the task's date; None when there is one text only."""
    texts, control = task.spec.template.texts, task.spec.holdout
    if len(texts) == 1:
        return None
    return VariantDraw(
        campaign=task.campaign,
        epoch=epoch_in_force(control.epoch, control.rotate_days, task.execution_date),
        weights={text.name: text.share for text in texts},
    )


def people_sql(task: Task) -> str:
    """What stands in FROM for a task's population; with ``variant`` where texts are drawn."""
    draw = variant_draw(task)
    if draw is None:
        return "task_population"
    return f"(select *, {variant_sql(draw, 'user_id')} as variant from task_population)"


def texts_mark(task: Task) -> str:
    """What a decision depends on of the texts: the only one's content, or all that is drawn."""
    texts = task.spec.template.texts
    if len(texts) == 1:
        return texts[0].content
    return json.dumps(sorted([text.name, text.content, repr(text.share)] for text in texts))
