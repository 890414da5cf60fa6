"""Step 4 of a task: write output.csv from its decision."""

from usergrowth_dagster.audience.output import OutputFile, write_output
from usergrowth_dagster.audience.records import decided_rows
from usergrowth_dagster.control.jobs import task_succeeded
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.pipeline.inputs import inputs_as_decided
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import open_engine


def write_task_output(project: Project, task: Task) -> OutputFile:
    """Write output.csv from a task's decision; the task has succeeded then.

    Raises:
        UserError: the output folder holds something foreign.
        NotReadyError: the task is not decided on its present inputs.
    """
    with open_engine(project.settings) as engine:
        inputs = inputs_as_decided(engine, project, task)
        decision = decided_rows(engine, project.warehouse, task.execution_date, task.task_id)
        output = write_output(
            engine,
            project.landing,
            task.output,
            state=project.state,
            task_id=task.task_id,
            execution_date=task.execution_date,
            decisions=decision.name,
            population=inputs.population.name,
            for_spreadsheets=project.settings.output_for_spreadsheets,
        )
        rows = int(engine.value(f"select count(*) from {decision}"))
    if not task.frozen:
        task_succeeded(
            project.store,
            task.task_id,
            population=rows,
            selected=output.rows,
            note=inputs.choice.note,
        )
    return output
