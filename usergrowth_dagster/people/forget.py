"""Forget a person: everything the project stores of them goes, a tombstone of hashes stays.

First the tombstone, so that nobody texts or lands the person from then on; then the control store,
exported files, the tables with every file that ever held their rows, the outputs, the outbox. Each
part can be done again, so a call that was killed is finished by the next one. Landing files belong
to whoever delivers them and are left alone: their rows of forgotten persons are set aside when they
land. Our own touches, and what sources have written or pulled, are written anew without the person.

Models hold no user ids: an input example is a row of feature values.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from usergrowth_dagster.affinity.forgetting import erase_from_affinity
from usergrowth_dagster.audience.output import erase_from_output
from usergrowth_dagster.control import audit
from usergrowth_dagster.control.tasks import all_tasks
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.forgetting import Exportee, erase_from_exports
from usergrowth_dagster.identity.addresses import landed_addresses
from usergrowth_dagster.intake.clicks import FILE_NAME as CLICKS_FILE
from usergrowth_dagster.intake.touches import erase_from_touches
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.forget import (
    Person,
    bury,
    erase_in_outbox,
    erase_in_store,
    ledger_addresses,
    tombstone_id,
)
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import clean_address
from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.saved import erase_from_saved
from usergrowth_dagster.segments import kept_leaves
from usergrowth_dagster.segments.uploads import erase_from_uploads
from usergrowth_dagster.sources.forgetting import erase_from_sources
from usergrowth_dagster.warehouse import erasure
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.erasure import Erased, erase_person, person_tables
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.months import forget_months
from usergrowth_dagster.warehouse.population import POPULATION

_PASSES = 3


@dataclass
class ForgetReport:
    """What was erased where, in counts; ``name`` is what stands for the person from now on.

    ``store`` is rows by table of the control store, ``outputs`` lines by task, ``outbox`` lines of
    the dry run, ``touches`` rows of our own landing files, ``uploads`` rows of uploads made from
    segments, ``sources`` rows that sources have landed or pulled, ``exports`` rows of exported
    files, ``affinity`` those of affinity jobs' results, ``recommenders`` files that a service
    recommends by; ``failures`` says what a person has to do yet.
    """

    name: str
    addresses: int = 0
    store: dict[str, int] = field(default_factory=dict)
    tables: list[Erased] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)
    outbox: int = 0
    touches: int = 0
    uploads: int = 0
    sources: int = 0
    exports: int = 0
    affinity: int = 0
    recommenders: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def anything(self) -> bool:
        """Whether there was anything to erase."""
        counts = [
            *self.store.values(),
            *self.outputs.values(),
            self.outbox,
            self.touches,
            self.uploads,
            self.sources,
            self.exports,
            self.affinity,
            self.recommenders,
        ]
        return any(counts) or any(t.rows or t.files for t in self.tables)


def forget(
    project: Project,
    user_id: str,
    addresses: Sequence[str] = (),
    *,
    actor: str,
    dry_run: bool = False,
) -> ForgetReport:
    """Erase a person everywhere, and keep them suppressed in every channel.

    Args:
        project: the home.
        user_id: the user.
        addresses: phone numbers and e-mail addresses that are known to be the person's, beside
            those that the project finds itself.
        actor: who does it, for the audit log.
        dry_run: count, and change nothing.

    Raises:
        UserError: an address is none, or other processes kept writing the person's rows.
    """
    if not user_id.strip():
        raise UserError(
            "name the user to forget: usergrowth forget <user id>", code="person.invalid"
        )
    store, home = project.store, project.settings.home
    vault = open_vault(home, project.settings.default_country)
    Ledger(store, vault)  # hashes of another key would suppress nobody
    given = tuple(clean_address(address, vault.country) for address in addresses)
    known = [
        *ledger_addresses(store, vault, user_id),
        *_population_addresses(project, user_id),
        *landed_addresses(project, user_id),
    ]
    person = Person(user_id, given, tuple(_usable(known, vault.country)))
    report = ForgetReport(tombstone_id(vault.user_digest(user_id)), len(person.addresses))
    if not dry_run:
        bury(store, vault, person, actor)
    report.store = erase_in_store(store, vault, person, dry_run=dry_run)
    _erase_from_exports(project, person, report, dry_run=dry_run)
    report.tables = _erase_tables(project, user_id, dry_run)
    if not dry_run:
        kept_leaves.empty(project)
    for busy in (t for t in report.tables if t.busy):
        report.failures.append(
            f"table {busy.table}: {busy.busy} files of an unfinished write hold the person; run "
            "the same command again when no job is at work, or in an hour"
        )
    for task in all_tasks(store):
        try:
            report.outputs[task.task_id] = erase_from_output(
                project.landing,
                task.output,
                user_id,
                state=project.state,
                task_id=task.task_id,
                dry_run=dry_run,
            )
        except UserError as error:
            report.failures.append(str(error))
    report.outbox = erase_in_outbox(home, person, vault, dry_run=dry_run)
    report.touches = erase_from_touches(project.landing, user_id, dry_run=dry_run)
    report.touches += erase_from_touches(
        project.landing, user_id, dry_run=dry_run, table="behavior", name=CLICKS_FILE
    )
    report.uploads = erase_from_uploads(project.landing, user_id, dry_run=dry_run)
    _erase_from_sources(project, user_id, report, dry_run=dry_run)
    results = erase_from_affinity(project.settings, user_id, dry_run=dry_run)
    report.affinity = results.rows
    report.failures += results.failures
    report.recommenders = erase_from_saved(home, user_id, dry_run=dry_run)
    if not dry_run:  # an occurrence may have been copied from another one meanwhile
        for name, rows in erase_in_store(store, vault, person).items():
            report.store[name] += rows
    if not dry_run and report.anything:
        _record_forgetting(project, report, actor)
    return report


_NATIONAL = re.compile(r"[0-9]{6,15}")


def _usable(addresses: Sequence[str], country: str | None) -> list[str]:
    """What was found beside the user and can be an address."""
    usable = []
    for address in addresses:
        try:
            usable.append(clean_address(address, country))
        except UserError:
            if _NATIONAL.fullmatch(address):  # was texted by a version that took it
                usable.append(address)
    return usable


def _population_addresses(project: Project, user_id: str) -> list[str]:
    files = [f for names in project.warehouse.files(POPULATION).values() for f in names]
    if not files:
        return []
    with open_engine(project.settings) as engine:
        kinds = {"user_id": "VARCHAR", "phone": "VARCHAR", "variables": "MAP(VARCHAR, VARCHAR)"}
        engine.bind_files(POPULATION, files, kinds)
        rows = engine.rows(
            f"select distinct unnest([phone, variables['email']]) from {POPULATION} "
            "where user_id = ?",
            [user_id],
        )
    return sorted(address for (address,) in rows if address)


def _erase_tables(project: Project, user_id: str, dry_run: bool) -> list[Erased]:
    """Erase table by table, what is made from others after them, until a look finds nothing."""
    warehouse, person = project.warehouse, erasure.Person(user_id)
    graph = load_graph()
    place = {name: number for number, name in enumerate([*graph.sources, *graph.order])}
    names = sorted(person_tables(warehouse), key=lambda n: (place.get(n, len(place)), n))
    total = {name: Erased(name) for name in names}
    known: dict[str, int] = {}
    for turn in range(1 if dry_run else _PASSES):
        again = False
        for number, name in enumerate(names):
            done = erase_person(
                project.settings, warehouse, name, person, dry_run=dry_run, known=known
            )
            total[name].rows += done.rows
            total[name].days += done.days
            total[name].files += done.files
            total[name].busy = done.busy
            again |= done.rows > 0
            project.progress("forget", number + 1, len(names))
        if not again:
            break
        if turn == _PASSES - 1:
            raise UserError(
                "other processes kept writing the person's rows; run the same command again when "
                "no job is at work",
                code="store.busy",
            )
    if not dry_run:
        forget_months(warehouse.storage)
    return list(total.values())


def _erase_from_sources(
    project: Project, user_id: str, report: ForgetReport, *, dry_run: bool
) -> None:
    try:
        erased = erase_from_sources(project.settings, project.landing, user_id, dry_run=dry_run)
    except UserError as error:
        report.failures.append(f"{error}; correct it and run the same command again")
        return
    report.sources = erased.landed + erased.pulled
    report.failures += erased.failures


def _erase_from_exports(
    project: Project, person: Person, report: ForgetReport, *, dry_run: bool
) -> None:
    """While the tables still know what went where."""
    exportee = Exportee(person.user_id, frozenset(person.given), frozenset(person.found))
    erased = erase_from_exports(project, exportee, report.name, dry_run=dry_run)
    report.exports = erased.rows
    report.store["export_error"] = erased.errors
    report.failures += erased.failures


def _record_forgetting(project: Project, report: ForgetReport, actor: str) -> None:
    """The audit log's last word: counts alone."""
    rows = sum(table.rows for table in report.tables)
    files = sum(table.files for table in report.tables)
    messages = report.store.get("message", 0)
    lines = sum(report.outputs.values()) + report.outbox + report.touches + report.uploads
    lines += report.sources + report.exports + report.affinity + report.recommenders
    with project.store.write() as connection:
        audit.record(
            connection,
            actor,
            "forget",
            report.name,
            f"{rows} rows of tables with {files} files, {messages} messages, {lines} lines of files"
            + (f"; {len(report.failures)} things left to do" if report.failures else ""),
        )
