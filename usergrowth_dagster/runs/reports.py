"""What runs of the chain came to, as values that can be written down and read again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usergrowth_dagster.explain.rehearse import Rehearsed


@dataclass(frozen=True)
class Rows:
    """A small table that an asset reported."""

    header: list[str]
    lines: list[list[Any]]


@dataclass
class RunReport:
    """What a run reported: rows by asset, metadata by asset, sentences of failed tasks.

    A table in the metadata is a :class:`Rows`.
    """

    run_id: str
    rows: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ChainReport:
    """Reports of the runs that a command made.

    ``warnings`` are sentences about what was not done, ``failures`` those of what was asked for
    by name; ``rehearsed`` are the tasks of a rehearsal. ``repeated`` is when the run was made that
    the report is of, where this one would have been the same.
    """

    ingest: RunReport
    decide: RunReport | None
    measure: RunReport | None = None
    rehearsed: "list[Rehearsed] | None" = None
    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    repeated: str | None = None

    @property
    def has_failures(self) -> bool:
        """Whether anything that was asked for was not done."""
        runs = [run for run in (self.ingest, self.decide, self.measure) if run is not None]
        return bool(self.failures) or any(run.failures for run in runs)


def written(report: ChainReport) -> dict[str, Any]:
    """A report without a rehearsal as JSON; values that JSON has no form for are left out."""
    return {
        "ingest": _written(report.ingest),
        "decide": report.decide and _written(report.decide),
        "warnings": report.warnings,
    }


def _written(report: RunReport) -> dict[str, Any]:
    metadata = {
        asset: {key: _plain(value) for key, value in values.items() if _is_plain(value)}
        for asset, values in report.metadata.items()
    }
    return {"run_id": report.run_id, "rows": report.rows, "metadata": metadata} | {
        "warnings": report.warnings
    }


def _plain(value: Any) -> Any:
    return {"rows": asdict(value)} if isinstance(value, Rows) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, Rows):
        return all(_is_plain(line) for line in value.lines)
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    return value is None or isinstance(value, str | int | float)


def read(document: Mapping[str, Any], repeated: str) -> ChainReport:
    """The report that :func:`written` made, as one that is repeated."""
    decide = document["decide"]
    return ChainReport(
        ingest=_read(document["ingest"]),
        decide=None if decide is None else _read(decide),
        warnings=list(document["warnings"]),
        repeated=repeated,
    )


def _read(document: Mapping[str, Any]) -> RunReport:
    metadata = {
        asset: {
            key: Rows(**value["rows"]) if isinstance(value, dict) and "rows" in value else value
            for key, value in values.items()
        }
        for asset, values in document["metadata"].items()
    }
    return RunReport(
        document["run_id"],
        dict(document["rows"]),
        metadata,
        warnings=list(document["warnings"]),
    )
