"""Commands about segments: check, size, refresh, list, show, errors, history, diff, upload …"""

from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of, say, warn

if TYPE_CHECKING:
    from usergrowth_dagster.segments.sizes import Sizes

app = typer.Typer()
group = typer.Typer(help="People by conditions: the segments of <home>/segments/.")
app.add_typer(group, name="segment")

Name = Annotated[str, typer.Argument(help="The segment.")]
AnyName = Annotated[str | None, typer.Argument(help="One segment; all without it.")]
Day = Annotated[str, typer.Option("--date", help="Execution date; default: today.")]
AnyDay = Annotated[str, typer.Option("--date", help="Execution date; default: the newest check.")]

SIZES = ("matches", "with address", "not refused", "not held out", "sendable now")
RECORDED = (*SIZES[:-1], "sendable when made")
"""Of a snapshot: who has refused since then still counts."""


def _sizes(sizes: "Sizes | None") -> tuple[Any, ...]:
    """The cells of :data:`SIZES` or :data:`RECORDED`."""
    return (None,) * len(SIZES) if sizes is None else astuple(sizes)


@group.command()
def check(name: AnyName = None, day: Day = "", as_json: Json = False, home: Home = None) -> None:
    """Read every segment and bind its statement; nothing is run."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.segments import check_segments

    page = Page(as_json)
    checked = check_segments(Project(open_home(home)), name, day_of(day) if day else None)
    page.table(
        "segments",
        ("segment", "form", "conditions", "refresh", "version", "reads"),
        [
            (one.segment, one.form, one.conditions, one.refresh, one.version, ", ".join(one.reads))
            for one in checked.looks
        ],
    )
    for one in checked.looks:
        for note in one.notes:
            page.say(f"{one.segment}: {note}.")
    page.finish(checked.failures)


@group.command()
def size(name: Name, day: Day = "", as_json: Json = False, home: Home = None) -> None:
    """Show how many people a segment has: an estimate first, then the exact sizes."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.segments import estimate_segment, size_segment

    page, project = Page(as_json), Project(open_home(home))
    on = day_of(day) if day else None
    guess = estimate_segment(project, name, on)
    if guess is not None:
        page.say(
            f"About {guess.people:,} people (95 % interval {guess.low:,} to {guess.high:,}), by a "
            f"sample of {guess.sampled:,}; the exact sizes follow."
        )
    sized = size_segment(project, name, on)
    page.table(
        "sizes",
        ("segment", "date", *SIZES),
        [(sized.segment, sized.execution_date, *_sizes(sized.sizes))],
    )
    for note in sized.notes:
        page.say(f"{note}.")
    page.document({"estimate": guess, "exact": sized})
    page.finish()


@group.command()
def refresh(
    name: AnyName = None,
    day: Day = "",
    reason: Annotated[str, typer.Option(help="Why; kept with the snapshot.")] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Look also at segments that are not due.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Keep who is in a segment as a snapshot; what has not changed gets no new one."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.segments.refresh import refresh_all

    page, project = Page(as_json), Project(open_home(home))
    ran = refresh_all(
        project,
        day_of(day) if day else project.settings.current_date(),
        actor=whoami(),
        name=name,
        reason=reason,
        again=again,
    )
    for one in ran.refreshed:
        page.say(f"{one.sentence}.")
        if one.alert:
            warn(one.alert)
        for note in one.snapshot.notes if one.snapshot is not None else ():
            page.say(f"{one.segment}: {note}.")
    if not ran.refreshed and not ran.failures:
        page.say("This home has no segments.")
    page.document({"segments": ran.refreshed, "failures": ran.failures})
    page.finish(ran.failures)


@group.command(name="list")
def list_all(as_json: Json = False, home: Home = None) -> None:
    """List the segments, their newest snapshots, and what is stale."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.segments import list_segments

    page = Page(as_json)
    listed = list_segments(Project(open_home(home)))
    page.table(
        "segments",
        ("segment", "owner", "refresh", "valid until", "snapshot", *RECORDED, "state"),
        [
            (
                one.segment,
                one.owner,
                one.refresh,
                one.valid_until,
                one.snapshot,
                *_sizes(one.sizes),
                f"STALE: {'; '.join(one.stale)}" if one.stale else "fresh",
            )
            for one in listed.segments
        ],
    )
    for one in listed.segments:
        if one.alert:
            page.say(f"ALERT: {one.alert}.")
    for held in listed.waited_for:
        does = "is held by" if held.blocks else "uses the newest snapshot of"
        page.say(
            f"ALERT: campaign {', '.join(held.campaigns)} {does} segment {held.segment}, which is "
            f"stale: {held.remedy}."
        )
    page.finish(listed.failures)


@group.command()
def show(name: Name, as_json: Json = False, home: Home = None) -> None:
    """Show a segment's definition, its newest snapshot, and what that was made from."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.segments import show_segment

    page = Page(as_json)
    shown = show_segment(Project(open_home(home)), name)
    one = shown.listed
    page.say(f"{one.segment}: {one.description}" if one.description else one.segment)
    for sentence in one.stale:
        page.say(f"STALE: {sentence}.")
    if one.alert:
        page.say(f"ALERT: {one.alert}.")
    page.table(
        "snapshot",
        ("snapshot", "date", *RECORDED, "made", "by", "reason"),
        []
        if one.snapshot is None
        else [
            (
                one.snapshot,
                one.execution_date,
                *_sizes(one.sizes),
                shown.made,
                shown.made_by,
                shown.reason,
            )
        ],
    )
    page.table("made from", ("input", "version"), sorted(shown.inputs.items()))
    for note in shown.notes:
        page.say(f"{note}.")
    if shown.check is not None and shown.check.sentence not in shown.notes:
        page.say(f"{shown.check.state.upper()} on {shown.check.ds}: {shown.check.sentence}.")
    page.say(f"SHA-256 of its people: {shown.sha256 or 'none'}")
    page.say(f"Definition, version {shown.version}:\n{shown.definition}")
    page.document(shown)
    page.finish()


@group.command()
def errors(name: Name, day: AnyDay = "", as_json: Json = False, home: Home = None) -> None:
    """Show the rows of a segment's source that are no members; values are masked."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.segments import segment_check

    page = Page(as_json)
    check = segment_check(Project(open_home(home)), name, day_of(day) if day else None)
    page.say(f"{check.state.upper()} on {check.ds}: {check.sentence}.")
    page.table("reasons", ("rule", "rows"), sorted(check.reasons.items()))
    page.table(
        "errors",
        ("line", "column", "rule", "value"),
        [(one.line, one.column, one.rule, one.value) for one in check.errors],
    )
    page.document(check)
    page.finish()


@group.command()
def history(
    name: Name,
    last: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 60,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show the snapshots of a segment, what changed between them, and jumps of the size."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.segments import segment_history

    page = Page(as_json)
    lines = segment_history(Project(open_home(home)), name, last)
    page.table(
        "history",
        ("snapshot", "date", *RECORDED, "made", "by", "reason", "changed"),
        [
            (
                one.snapshot,
                one.execution_date,
                *_sizes(one.sizes),
                one.made,
                one.made_by,
                one.reason,
                f"FAILED: {one.error}" if one.error else one.changed,
            )
            for one in lines
        ],
    )
    for one in lines:
        if one.alert:
            page.say(f"ALERT: {one.alert}.")
    page.finish()


@group.command()
def diff(
    name: Name,
    before: Annotated[
        str, typer.Argument(help="A snapshot; default: the one before the second.")
    ] = "previous",
    after: Annotated[str, typer.Argument(help="A snapshot; default: the newest.")] = "newest",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show how many people came and went between two snapshots, and the condition that changed."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.segments import diff_segment

    page = Page(as_json)
    made = diff_segment(Project(open_home(home)), name, before, after)
    page.table(
        "difference",
        ("before", "after", "added", "removed", "kept"),
        [(made.before, made.after, made.added, made.removed, made.kept)],
    )
    page.say(f"Why: {made.why}.")
    if made.forgotten:
        page.say(f"{made.forgotten:,} people have been forgotten since, and are in neither.")
    page.document(made)
    page.finish()


@group.command()
def upload(
    name: Name,
    task: Annotated[str, typer.Argument(help="Name of a task that has no upload yet.")],
    item: Annotated[str, typer.Option(help="The item that the message is about.")] = "-",
    snapshot: Annotated[str, typer.Option(help="A snapshot; default: the newest.")] = "newest",
    home: Home = None,
) -> None:
    """Make a snapshot the population of a task, with the numbers and addresses last uploaded."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.segments.files import segment_named
    from usergrowth_dagster.segments.uploads import sentence_of, upload_segment

    project = Project(open_home(home))
    named = segment_named(project.settings.home, name)
    done = upload_segment(project, named, task, actor=whoami(), item=item, snapshot=snapshot)
    say(f"{sentence_of(done)}.")
    for sentence in done.stale:
        warn(f"segment {name} is stale: {sentence}")


@group.command()
def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default standard output.")
    ] = None,
) -> None:
    """Write the JSON schema of a segment's file, so that editors complete and check its keys."""
    from usergrowth_dagster.documents import document
    from usergrowth_dagster.segments.definition import segment_schema

    text = document(segment_schema()) + "\n"
    if output is None:
        typer.echo(text.encode(), nl=False)
        return
    output.write_text(text, encoding="utf-8")
    say(f"Wrote {output}.")
