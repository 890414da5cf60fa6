"""The decision of a task that stands, as the value that is explained and measured."""

from dataclasses import dataclass

from usergrowth_dagster.audience.policy import Policy, parse_policy
from usergrowth_dagster.audience.records import decided_rows
from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.pipeline.choice import selection_policy
from usergrowth_dagster.pipeline.provenance import Provenance, read_provenance, recorded_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation


@dataclass(frozen=True)
class Decision:
    """A decision as it stands in the table.

    Attributes:
        task: the task as it is now.
        rows: the decision's rows, bound in an engine; none while the task is not decided.
        provenance: what it was made from; None for decisions from before this was kept.
    """

    task: Task
    rows: Relation
    provenance: Provenance | None

    @property
    def spec(self) -> CampaignSpec:
        """The campaign as it was decided by, else as it is now."""
        return self.task.spec if self.provenance is None else recorded_task(self.provenance).spec

    @property
    def policy(self) -> Policy:
        """The policy that chose: as it was written down, else the one the campaign asks for."""
        if self.provenance is None:
            return selection_policy(self.task.spec)
        return parse_policy(self.provenance.choice["policy"])


def read_decision(engine: Engine, project: Project, task: Task) -> Decision:
    """Bind the decision of a task that stands, whatever has become of its inputs since."""
    day = task.execution_date
    return Decision(
        task=task,
        rows=decided_rows(engine, project.warehouse, day, task.task_id),
        provenance=read_provenance(project.warehouse, task.task_id).get(day),
    )
