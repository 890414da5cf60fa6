"""The decision against one in plain Python, and the file of a snapshot."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.rta_service import policy, today, write

from usergrowth_dagster.acquisition.answering import Answering
from usergrowth_dagster.acquisition.caps import Caps
from usergrowth_dagster.acquisition.decide import Decider
from usergrowth_dagster.acquisition.definition import Acquisition, read_acquisition
from usergrowth_dagster.acquisition.devices import KINDS, Device, device, hashed
from usergrowth_dagster.acquisition.snapshot import KEPT, Known, Snapshot, current_name
from usergrowth_dagster.errors import UserError

NOW = datetime.now(UTC).timestamp()
IDS = [Device(kind, hashed(kind, str(number))) for kind in KINDS[:3] for number in range(4)]
scores = st.none() | st.floats(0, 1, width=32)
known = st.dictionaries(st.sampled_from(IDS), st.builds(Known, st.booleans(), scores))
caps = st.none() | st.fixed_dictionaries({"times": st.integers(1, 2), "seconds": st.just(100)})
conditions = st.fixed_dictionaries(
    {
        "device": st.sampled_from(["any", "known", "unknown"]),
        "active": st.none() | st.just(False),
        "at_most": caps,
        "factor": st.none() | st.floats(0.1, 5),
        "on_failure": st.sampled_from(["accept", "reject"]),
    }
)
rules = st.lists(conditions, min_size=1, max_size=4).flatmap(
    lambda listed: st.tuples(
        st.just(listed),
        st.lists(scores, min_size=len(listed), max_size=len(listed)),
        st.sampled_from([0.0, 0.5]),
        st.sampled_from(["accept", "reject"]),
    )
)
requests = st.lists(
    st.tuples(
        st.lists(st.sampled_from(IDS), max_size=3),
        st.sampled_from([[], ["1"], ["2", "1"], ["9"]]),
        st.integers(0, 250),
    ),
    max_size=12,
)


def made(drawn: Any) -> Acquisition:
    listed, cuts, share, answer = drawn
    named = []
    for number, (one, cut) in enumerate(zip(listed, cuts, strict=True)):
        cut = None if one["device"] == "unknown" else cut
        named.append({"name": f"s{number}", **one, "score_at_least": cut})
    return policy(
        strategies=named,
        experiments={"1": ["s0"]},
        control={"share": share, "answer": answer},
    )


class Plain:
    """The rules, read from the documentation, one after another."""

    def __init__(self, rules: Acquisition, there: dict[Device, Known] | None) -> None:
        self.rules, self.there = rules, there
        self.accepted: list[tuple[str, int, Device]] = []

    def decide(
        self, devices: list[Device], experiments: list[str], now: float, arm: str
    ) -> tuple[bool, list[str]]:
        allowed = {one.name for one in self.rules.strategies}
        if "1" in experiments:
            allowed = {"s0"}
        asked = [one for one in self.rules.strategies if one.name in allowed]
        if arm == "control":
            hits = [one.name for one in asked] if self.rules.control.answer == "accept" else []
            return bool(hits), hits
        ranked = sorted(devices, key=lambda one: KINDS.index(one.kind))
        facts = (
            next((self.there[d] for d in ranked if d in self.there), None) if self.there else None
        )
        hits = []
        for one in asked:
            needs = one.device != "any" or one.active is not None or one.score_at_least is not None
            if needs and self.there is None:
                right = one.on_failure == "accept"
            else:
                right = {"any": True, "known": facts is not None, "unknown": facts is None}[
                    one.device
                ]
                right &= one.active is None or bool(facts and facts.active) == one.active
                if one.score_at_least is not None:
                    right &= (
                        facts is not None
                        and facts.score is not None
                        and facts.score >= one.score_at_least
                    )
            if right and one.at_most is not None:
                window = int(now) // one.at_most.seconds
                if not ranked:
                    right = one.on_failure == "accept"
                else:
                    right = self.accepted.count((one.name, window, ranked[0])) < one.at_most.times
            if right:
                hits.append(one.name)
        for one in asked:
            if one.name in hits and one.at_most is not None and ranked:
                self.accepted.append((one.name, int(now) // one.at_most.seconds, ranked[0]))
        return bool(hits), hits


@settings(max_examples=60, deadline=None)
@given(drawn=rules, there=st.none() | known, asked=requests)
def test_decisions_are_those_of_plain_python(
    tmp_path_factory: pytest.TempPathFactory, drawn: Any, there: Any, asked: Any
) -> None:
    """Guards against a device that is bid for against a rule, or by the facts of another one."""
    rules, snapshot = made(drawn), None
    if there is not None:
        folder = tmp_path_factory.mktemp("drawn")
        snapshot = Snapshot(write(folder, there))
    decider, plain = Decider(rules, lambda: snapshot), Plain(rules, there)
    start = (NOW // 1000) * 1000
    for devices, experiments, second in sorted(asked, key=lambda one: one[2]):
        decision = decider.decide(devices, experiments, start + second)
        again = Decider(rules, lambda: snapshot).decide(devices, experiments, start + second)
        assert decision.arm == again.arm
        assert (decision.arm == "none") == (not devices)
        accept, names = plain.decide(devices, experiments, start + second, decision.arm)
        assert (decision.accept, [one.name for one in decision.hits]) == (accept, names)
        cache = rules.cache
        assert decision.cache_seconds == (cache.accept_seconds if accept else cache.reject_seconds)
        if decision.arm == "treatment" and names:
            first = next(one for one in rules.strategies if one.name == names[0])
            assert decision.factor == first.factor


def test_the_control_share_is_that_of_the_devices_and_of_the_salt() -> None:
    """Guards against a control group that is too small, or the same one in each campaign."""
    devices = [Device("oaid", hashed("oaid", f"d{number}")) for number in range(4_000)]
    groups = []
    for salt in ("one", "two"):
        decider = Decider(policy(salt=salt, control={"share": 0.2}), lambda: None)
        groups.append({d for d in devices if decider.decide([d], [], NOW).arm == "control"})
    assert all(700 < len(group) < 900 for group in groups)
    assert 110 < len(groups[0] & groups[1]) < 210


def test_a_full_count_is_a_failure_and_no_free_pass() -> None:
    """Guards against caps that hold for nobody once a window has too many devices."""
    devices = [Device("oaid", hashed("oaid", str(number))) for number in range(3)]
    for answer in ("accept", "reject"):
        one = {"name": "any", "at_most": {"times": 1, "seconds": 3600}, "on_failure": answer}
        decider = Decider(policy(strategies=[one]), lambda: None, Caps(most=2))
        start = (NOW // 3600) * 3600
        first = [decider.decide([d], [], start).accept for d in devices]
        assert first == [True, True, answer == "accept"]
        assert not decider.decide(devices[:1], [], start + 1).accept
        assert decider.decide(devices[:1], [], start + 3600).accept


def test_an_old_snapshot_counts_as_none(tmp_path: Path) -> None:
    """Guards against bids by facts of last month, when the daily run has stopped unseen."""
    here = Device("oaid", hashed("oaid", "1"))
    snapshot = Snapshot(write(tmp_path, {here: Known(False, None)}, today() - timedelta(days=2)))
    one = {"name": "known", "device": "known", "on_failure": "reject"}
    for stale, accept in ((2, False), (4, True)):
        decider = Decider(policy(strategies=[one], stale_after_days=stale), lambda: snapshot)
        assert decider.decide([here], [], NOW).accept == accept == decider.ready(NOW)


def test_a_damaged_snapshot_never_answers(tmp_path: Path) -> None:
    """Guards against garbage that is read as facts after a copy that broke off."""
    here = Device("imei", hashed("imei", "1"))
    good = write(tmp_path, {here: Known(True, 0.5)}, today() - timedelta(days=1))
    answering = Answering(tmp_path)
    answering.look()
    bad = write(tmp_path, {here: Known(False, 0.25)})
    whole = bad.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    for broken in (whole[:-1], flipped, whole[:9], b"", b"x" * len(whole)):
        bad.write_bytes(broken)
        with pytest.raises(UserError, match="no whole snapshot"):
            Snapshot(bad)
        answering.look()
        snapshot = answering()
        assert snapshot is not None and snapshot.name == good.name
    assert snapshot.find(here) == Known(True, 0.5)
    bad.write_bytes(whole)
    answering.look()
    mended = answering()
    assert mended is not None and mended.find(here) == Known(False, 0.25)


def test_a_folder_keeps_a_few_and_an_older_day_never_answers(tmp_path: Path) -> None:
    """Guards against a backfill that puts last week's facts in today's place, and a full disk."""
    here = Device("imei", hashed("imei", "1"))
    days = [today() - timedelta(days=back) for back in (5, 4, 0, 3, 2)]
    (tmp_path / ".new-half").write_bytes(b"of a writer that was killed")
    written = [write(tmp_path, {here: Known(True, None)}, day) for day in days]
    assert not (tmp_path / ".new-half").exists()
    assert current_name(tmp_path) == written[2].name
    left = {path.name for path in tmp_path.glob("*.rta")}
    assert written[2].name in left and len(left) <= KEPT + 1
    assert write(tmp_path, {here: Known(True, None)}, days[2]) == written[2]


def test_ids_of_nobody_are_no_ids() -> None:
    """Guards against all phones without an id being one known device."""
    nothing = "00000000-0000-0000-0000-000000000000"
    assert device("idfa", hashed("idfa", nothing)) is None
    assert device("oaid", hashed("oaid", "")) is None
    assert device("imei", "5d41") is None and device("imei", "g" * 32) is None
    assert device("imei", "5D41402ABC4B2A76B9719D911017C592") is not None
    assert hashed("idfa", "ab-C") == hashed("idfa", "AB-c") != hashed("oaid", "ab-C")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"strategies": [{"name": "a"}, {"name": "a"}]}, "two strategies have the name 'a'"),
        ({"experiments": {"7": ["b"]}}, "experiment 7: there is no strategy 'b'"),
        ({"strategies": [{"name": "a", "device": "unknown", "score_at_least": 0.5}]}, "no score"),
        (
            {"strategies": [{"name": "a", "score_at_least": 0.5}], "score": None},
            "needs the key score",
        ),
        ({"control": {"share": 0.9}}, "less than or equal to 0.5"),
    ],
)
def test_a_mistake_in_the_file_names_the_rule(change: dict[str, Any], sentence: str) -> None:
    """Guards against a rule that silently does nothing."""
    with pytest.raises(ValidationError, match=sentence):
        policy(**change)


def test_a_file_that_breaks_its_format_is_a_sentence(tmp_path: Path) -> None:
    """Guards against a traceback at the start of the service."""
    path = tmp_path / "acquisition.yml"
    path.write_text("salt: s\nids: {oaid: oiad}\nstrategies: [{name: a}]\n")
    with pytest.raises(UserError, match=r"acquisition\.yml: ids\.oaid\.kind: must be 'idfa'"):
        read_acquisition(path)
