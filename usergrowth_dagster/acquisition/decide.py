"""The decision: whether to bid for a device, by which strategies, and for how long that holds.

A request is decided in three steps: the control share by a hash, the strategies of its experiment,
and the caps. A condition that cannot be looked up (no fresh snapshot, no id to count by) gives what
its strategy says under ``on_failure``. One process decides one request at a time.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from usergrowth_dagster.acquisition.caps import Caps
from usergrowth_dagster.acquisition.definition import Acquisition, Strategy
from usergrowth_dagster.acquisition.devices import KINDS, Device
from usergrowth_dagster.acquisition.snapshot import Known, Snapshot

Arm = Literal["treatment", "control", "none"]
"""``none``: a request without an id, which no hash can draw."""

_RANK = {kind: place for place, kind in enumerate(KINDS)}
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Decision:
    """What one request is answered with.

    Attributes:
        accept: whether to bid.
        arm: the device's.
        hits: strategies that accept, in the order of the file.
        factor: by which the bid is multiplied, that of the first hit; None: not named.
        cache_seconds: how long the answer may be repeated.
        device: the id that the arm and the caps go by; None: the request has none.
        known: what the snapshot knows of the device; None: nothing.
        snapshot: name of the snapshot; empty: none answered.
        experiment: id of the experiment whose strategies counted; empty: none that the file names.
    """

    accept: bool
    arm: Arm
    hits: tuple[Strategy, ...]
    factor: float | None
    cache_seconds: int
    device: Device | None
    known: Known | None
    snapshot: str
    experiment: str


def _key_of(salt: str) -> bytes:
    return hashlib.blake2b(salt.encode(), digest_size=32).digest()


class Decider:
    """Decides by a policy and the snapshot that answers now.

    Args:
        policy: the file.
        snapshot: gives the snapshot; None: there is none.
        caps: counts acceptances.
    """

    def __init__(
        self,
        policy: Acquisition,
        snapshot: Callable[[], Snapshot | None],
        caps: Caps | None = None,
    ) -> None:
        self.policy, self._snapshot = policy, snapshot
        self._caps = caps or Caps()
        by_name = {one.name: one for one in policy.strategies}
        self._of_experiment: Mapping[str, tuple[Strategy, ...]] = {
            experiment: tuple(by_name[name] for name in by_name if name in names)
            for experiment, names in policy.experiments.items()
        }
        self._key = _key_of(policy.salt)
        self._cut = policy.control.share * 2**64

    def ready(self, now: float) -> bool:
        """Whether a snapshot answers that is not too old."""
        return self._fresh(now) is not None

    def decide(
        self,
        devices: Sequence[Device],
        experiments: Sequence[str],
        now: float,
        targets: frozenset[str] | None = None,
    ) -> Decision:
        """Decide one request.

        Args:
            devices: its ids, in any order.
            experiments: ids of the exchange's experiments; the first that the file names counts.
            now: seconds since 1970.
            targets: ids of the strategies that are asked about; None: all.
        """
        device = min(devices, key=_rank) if devices else None
        experiment = next((one for one in experiments if one in self._of_experiment), "")
        strategies = self._strategies(experiment, targets)
        snapshot = self._fresh(now)
        known = _look_up(snapshot, devices)
        arm = self._arm(device)
        if arm == "control":
            accept = self.policy.control.answer == "accept" and bool(strategies)
            hits, factor = (strategies if accept else ()), None
        else:
            hits = tuple(
                one
                for one in strategies
                if self._meets(one, snapshot, known) and self._is_free(one, device, now)
            )
            accept, factor = bool(hits), hits[0].factor if hits else None
            self._count(hits, device, now)
        cache = self.policy.cache
        return Decision(
            accept,
            arm,
            hits,
            factor,
            cache.accept_seconds if accept else cache.reject_seconds,
            device,
            known,
            snapshot.name if snapshot is not None else "",
            experiment,
        )

    def _strategies(self, experiment: str, targets: frozenset[str] | None) -> tuple[Strategy, ...]:
        chosen = self._of_experiment.get(experiment, self.policy.strategies)
        return chosen if targets is None else tuple(one for one in chosen if one.id in targets)

    def _fresh(self, now: float) -> Snapshot | None:
        """The snapshot, unless it is too old."""
        snapshot = self._snapshot()
        if snapshot is None:
            return None
        fresh_seconds = self.policy.stale_after_days * _DAY_SECONDS
        return snapshot if now - snapshot.began < fresh_seconds else None

    def _arm(self, device: Device | None) -> Arm:
        if device is None:
            return "none"
        if not self._cut:
            return "treatment"
        text = f"{device.kind}:{device.md5}".encode()
        drawn = int.from_bytes(hashlib.blake2b(text, digest_size=8, key=self._key).digest())
        return "control" if drawn < self._cut else "treatment"

    def _meets(self, one: Strategy, snapshot: Snapshot | None, known: Known | None) -> bool:
        if not one.looks_up:
            return True
        if snapshot is None:
            return one.on_failure == "accept"
        if one.device != "any" and (one.device == "known") != (known is not None):
            return False
        if one.active is not None and (known is not None and known.active) != one.active:
            return False
        if one.score_at_least is None:
            return True
        score = known.score if known is not None else None
        return score is not None and score >= one.score_at_least

    def _is_free(self, one: Strategy, device: Device | None, now: float) -> bool:
        """Whether the cap of a strategy leaves room."""
        if one.at_most is None:
            return True
        count = None if device is None else self._caps.count(one, _number(device), now)
        return one.on_failure == "accept" if count is None else count < one.at_most.times

    def _count(self, hits: Sequence[Strategy], device: Device | None, now: float) -> None:
        for one in hits:
            if one.at_most is not None and device is not None:
                self._caps.add(one, _number(device), now)


def _rank(device: Device) -> int:
    return _RANK[device.kind]


def _number(device: Device) -> int:
    """A number of the id, another one for each kind: the caps count by it."""
    return device.key << 3 | _RANK[device.kind]


def _look_up(snapshot: Snapshot | None, devices: Sequence[Device]) -> Known | None:
    """What is known by the surest id that is known at all."""
    if snapshot is None:
        return None
    for device in sorted(devices, key=_rank) if len(devices) > 1 else devices:
        known = snapshot.find(device)
        if known is not None:
            return known
    return None
