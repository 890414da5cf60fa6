"""What must hold of a ledger and its provider when everything has come to an end."""

from collections import Counter
from pathlib import Path

from children import accepted_of, codes_accepted
from sqlalchemy import func, select
from worlds import World, codes_of, ledger_rows

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState

TAKEN = (MessageState.ACCEPTED, MessageState.DELIVERED, MessageState.UNDELIVERED)
ENDED = (*TAKEN, MessageState.REJECTED, MessageState.EXPIRED, MessageState.SKIPPED)


class BrokenPromiseError(AssertionError):
    """The ledger and the provider do not agree, or a person was sent to twice or forgotten."""


def _must(holds: bool, sentence: str) -> None:
    if not holds:
        raise BrokenPromiseError(sentence)


def audit_world(world: World, accepted: Path) -> Counter[str]:
    """Check a world that has come to its end; returns people by state.

    Raises:
        BrokenPromiseError: a promise of the ledger is broken.
    """
    taken = accepted_of(accepted, world.name)
    for what, place in (("message", 0), ("recipient", 1)):
        most = Counter(one[place] for one in taken).most_common(1)
        _must(not most or most[0][1] == 1, f"{world.name}: a {what} was accepted twice: {most}")
    store = world.open()
    rows = list(ledger_rows(store))
    _must(len(rows) == world.people, f"{world.name}: {len(rows)} rows for {world.people} people")
    at_provider = {int(out_id) for out_id, _ in taken}
    states: Counter[str] = Counter()
    for row_id, user, state, reason in rows:
        states[str(state)] += 1
        where = f"{world.name}: {user} (row {row_id}) is {state}"
        _must(state in ENDED or state is MessageState.IN_DOUBT, f"{where}: it has no end")
        if state is MessageState.IN_DOUBT:
            _must(bool(reason), f"{where} without a reason")
        elif state in TAKEN:
            _must(row_id in at_provider, f"{where}, but the provider never accepted it")
        else:
            _must(row_id not in at_provider, f"{where}, but the provider accepted it")
    _sums(world, rows, at_provider)
    codes = codes_of(store)
    for row_id, code in codes_accepted(accepted, world.name).items():
        where = f"{world.name}: row {row_id} was sent as {code}"
        _must(code == codes[row_id], f"{where}, but its text is {codes[row_id]}")
    with store.read() as connection:
        sizes = connection.execute(select(func.count()).where(schema.receipt.c.pending)).scalar()
    _must(not sizes, f"{world.name}: {sizes} receipts were never applied")
    store.close()
    return states


def _sums(
    world: World,
    rows: list[tuple[int, str, MessageState, str | None]],
    at_provider: set[int],
) -> None:
    doubtful = {row[0] for row in rows if row[2] is MessageState.IN_DOUBT}
    known = {row[0] for row in rows if row[2] in TAKEN}
    _must(
        len(known) + len(doubtful & at_provider) == len(at_provider),
        f"{world.name}: the provider accepted {len(at_provider)}, the ledger knows of {len(known)} "
        f"and doubts {len(doubtful & at_provider)}",
    )
    _must(
        not doubtful & at_provider,
        f"{world.name}: look-ups left {len(doubtful & at_provider)} in doubt that were accepted",
    )
