"""What another policy would have earned on a task's people."""

from dataclasses import dataclass

from usergrowth_dagster.control.tasks import task as read_task
from usergrowth_dagster.effects.policies import Valued, Worth
from usergrowth_dagster.effects.result import Effect
from usergrowth_dagster.measure.effects import measure
from usergrowth_dagster.measure.policies import Question, ask, policy_asked, worth_of
from usergrowth_dagster.project import Project


@dataclass(frozen=True)
class WhatIf:
    """The answers to a question about policies.

    ``effect`` is what was measured of the task, ``worth`` what a return is taken to be worth.
    """

    question: Question
    effect: Effect
    worth: Worth
    answers: list[Valued]


def what_if(project: Project, task_id: str, question: Question) -> WhatIf:
    """Estimate what a policy would have earned beside the one that was used.

    Raises:
        UserError: no such task, it has not been decided, or the policy cannot be asked about.
    """
    task = read_task(project.store, task_id)
    policy_asked(task, question)
    effect = measure(project, task)
    answers = ask(project, task, effect, question)
    return WhatIf(question, effect, worth_of(project, task, question), answers)
