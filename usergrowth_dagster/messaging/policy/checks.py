"""What must hold before anything of an occurrence is planned; each refusal says what to do."""

from datetime import datetime

from sqlalchemy import select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import TemplateType
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.policy.contact import contact_rules
from usergrowth_dagster.messaging.texts.content import tells_how_to_refuse
from usergrowth_dagster.messaging.texts.refusals import promise_problems, words_of
from usergrowth_dagster.settings import Settings


def check_fresh(settings: Settings, task: Task, due: datetime) -> None:
    """Refuse an audience that was decided too long before it is sent to.

    Args:
        settings: the home's settings.
        task: the decided task; its execution date is when its audience was decided.
        due: when the occurrence is sent.

    Raises:
        UserError: says how old it is, and how to decide it anew.
    """
    rules = contact_rules(settings, task.spec.contact.model_dump())
    day = due.astimezone(settings.zone).date()
    age = (day - task.execution_date).days
    if age > rules.max_audience_days:
        raise UserError(
            f"campaign {task.campaign!r}: its audience of {task.execution_date} would be {age} "
            f"days old when it is sent to on {day}, and at most {rules.max_audience_days} are "
            "allowed: give the campaign a later execution_date (or schedule.execute_time an "
            "earlier day) and apply it, or raise contact.max_audience_days",
            code="audience.too_old",
        )


def check_refusable(
    settings: Settings, task: Task, name: str, content: str, template_type: TemplateType
) -> None:
    """Refuse a promotion that does not say how to get no more of them, or an unheard word.

    A text that names a word by which people refuse is refused when a reply of that word is not
    recognized as a refusal.

    The text was checked when the campaign was applied, but the setting may have changed since.

    Args:
        settings: the home's settings.
        task: whose campaign it is.
        name: of the text.
        content: of the text.
        template_type: of the text.

    Raises:
        UserError: names the texts that it may hold, or the word.
    """
    keys = {text.name: text.key for text in task.spec.template.texts}
    for problem in promise_problems(content, words_of(settings)):
        raise UserError(
            f"campaign {task.campaign!r}: {keys[name]}.content: {problem}", code="text.unsendable"
        )
    if template_type is not TemplateType.PROMOTION:
        return
    if not tells_how_to_refuse(content, settings.opt_out_texts, task.spec.channel_by_text[name]):
        listed = " or ".join(repr(text) for text in settings.opt_out_texts)
        raise UserError(
            f"campaign {task.campaign!r}: its promotion does not say how to refuse: add {listed} "
            f"to {keys[name]}.content, apply it and have it reviewed",
            code="text.unsendable",
        )


def check_promise(store: ControlStore, settings: Settings, name: str) -> None:
    """Refuse to approve a template that names a word by which people refuse, but in vain.

    Args:
        store: the control store.
        settings: the words.
        name: of the template; one that is not known is no problem here.

    Raises:
        UserError: the reply that the template asks for would not be recognized as a refusal.
    """
    template = schema.template
    with store.read() as connection:
        content = connection.scalar(select(template.c.content).where(template.c.name == name))
    for problem in promise_problems(content or "", words_of(settings)):
        raise UserError(f"template {name!r}: {problem}", code="text.unsendable")
