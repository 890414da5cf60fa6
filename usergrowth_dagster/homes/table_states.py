"""Checks the kept state of the tables against their logs, and derives it again."""

from collections.abc import Mapping

from usergrowth_dagster.project import Project


def state_faults(project: Project) -> Mapping[str, str]:
    """How the kept states of tables differ from their logs, by table; nothing is changed."""
    warehouse = project.warehouse
    faults = {table: warehouse.states.fault(warehouse.log(table)) for table in warehouse.tables()}
    return {table: fault for table, fault in faults.items() if fault is not None}


def rebuild_states(project: Project) -> list[tuple[str, int, int]]:
    """Derive the state of every table from its whole log; name, version and written days of each.

    The file that keeps the states must be writable; it may be missing or damaged.
    """
    warehouse = project.warehouse
    lines = []
    for table in warehouse.tables():
        warehouse.states.rebuild(warehouse.log(table))
        state = warehouse.state(table)
        if state is not None:
            days = {day for marks in state.marks.values() for day in marks}
            lines.append((table, state.version, len(days)))
    return lines
