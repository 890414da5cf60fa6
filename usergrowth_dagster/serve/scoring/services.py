"""The versions that answer, and how one takes another's place.

A version is loaded and warmed up beside the one that answers. Then one assignment puts it in that
one's place: a request reads the pointer once and keeps what it read until it is answered.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.artifacts import load
from usergrowth_dagster.learning.problems import problems
from usergrowth_dagster.learning.targets import target_called
from usergrowth_dagster.project import Project
from usergrowth_dagster.serve.scoring.row_scores import RowScorer
from usergrowth_dagster.training.served import challenger, champion, is_approved, registered_names

if TYPE_CHECKING:
    from usergrowth_dagster.learning.store import ModelRef

LOG = logging.getLogger("usergrowth.scoring")


@dataclass(frozen=True)
class Served:
    """A loaded version.

    Attributes:
        name: the service, which is the question and its registered model.
        version: its number.
        scorer: scores rows by it.
        kind: ``binary``, ``regression`` or ``effect``.
        pairs: whether a row is a pair of user and item.
    """

    name: str
    version: int
    scorer: RowScorer
    kind: str
    pairs: bool

    @property
    def shares(self) -> bool:
        """Whether scores are probabilities."""
        return self.kind == "binary"


@dataclass(frozen=True)
class Pair:
    """The version that answers, and the one in its shadow."""

    served: Served
    shadow: Served | None = None


class Services:
    """The versions of a home that answer, by the names of their services.

    Args:
        project: the home.
        names: only these services; None: every question with an approved version.
        shadows: whether challengers are held, too.
        changed: called with each service's pair once it answers, or with its name and None.
    """

    def __init__(
        self,
        project: Project,
        names: Sequence[str] | None = None,
        *,
        shadows: bool = False,
        changed: Callable[[str, Pair | None], None] = lambda _name, _pair: None,
    ) -> None:
        self._project, self._shadows = project, shadows
        self._names = None if names is None else frozenset(names)
        self._changed = changed
        self._pairs: dict[str, Pair] = {}

    @property
    def named(self) -> bool:
        """Whether it was said which services are to answer."""
        return self._names is not None

    @property
    def ready(self) -> bool:
        """Whether every service that was named can answer; where none was, whether one can."""
        return bool(self._pairs) if self._names is None else self._pairs.keys() >= self._names

    def get(self, name: str) -> Pair | None:
        """What answers a service now."""
        return self._pairs.get(name)

    def hold(self, name: str, pair: Pair) -> None:
        """Let versions that are loaded and warm answer a service from now on."""
        self._pairs[name] = pair
        self._changed(name, pair)

    def refresh(self) -> None:
        """Bring every service to the version that the registry names; one's trouble stays its own.

        Raises:
            UserError: MLflow cannot be reached; what answered goes on answering.
        """
        if self._names == frozenset():
            return
        registered = registered_names(self._project)
        for name in sorted({*registered, *self._pairs}):
            if self._names is None or name in self._names:
                try:
                    self._bring(name)
                except UserError as error:
                    LOG.error("%s: %s", name, error)

    def _bring(self, name: str) -> None:
        """Bring a service to the version that the registry names.

        Raises:
            UserError: it cannot be loaded; the old one goes on as long as it is approved.
        """
        ref, old = champion(self._project, name), self._pairs.get(name)
        if ref is None:
            self._drop(name)
            return
        pair = old
        if pair is None or pair.served.version != ref.version:
            try:
                pair = Pair(_loaded(ref))
            except UserError:
                if old is not None and not is_approved(self._project, name, old.served.version):
                    self._drop(name)
                raise
        other = challenger(self._project, name, ref) if self._shadows else None
        pair = replace(pair, shadow=self._shadow(other, old))
        if pair != old:
            self.hold(name, pair)
            LOG.info("%s: version %d answers", name, pair.served.version)

    def _drop(self, name: str) -> None:
        """Let a service answer no more, if it does."""
        if self._pairs.pop(name, None) is not None:
            LOG.warning("%s: no approved version is left; it answers no more", name)
            self._changed(name, None)

    def _shadow(self, ref: "ModelRef | None", old: Pair | None) -> Served | None:
        """The challenger; one that cannot be loaded is none."""
        if ref is None:
            return None
        if old is not None and old.shadow is not None and old.shadow.version == ref.version:
            return old.shadow
        try:
            return _loaded(ref)
        except UserError as error:
            LOG.warning("%s: the challenger does not answer: %s", ref.name, error)
            return None


def _loaded(ref: "ModelRef") -> Served:
    """A version, loaded and warmed up.

    Raises:
        UserError: its files are gone or altered.
    """
    problem = problems()[ref.name]
    kind = target_called(problem.target).name
    return Served(ref.name, ref.version, RowScorer(load(ref)), kind, problem.pairs)
