"""Flat features of a few rows that a caller sends, as those of a table are made in SQL.

A row is a mapping by name. It names source columns (``events_30d``, ``kind_events_30d`` with a
mapping of its keys), flat features (``kind_events_30d__buy``), or both. What it says beside the
features, and the training's tables have too, such as ``user_id``, is passed over.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.encoding import (
    KEYS,
    MISSING,
    OTHER,
    Feature,
    FeatureSpec,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

UNKNOWN = float("nan")
_LISTED = 8
Row = Mapping[str, Any]
Take = Callable[[Any, list[float], list[str]], None]
"""Puts a value of a row into its numbers and its texts; ValueError says what it must be."""


@dataclass(frozen=True)
class FlatRows:
    """Flat features of rows.

    Attributes:
        spec: whose features they are.
        numbers: shape (n, numbers), NaN where unknown, in the order of ``spec.numbers``.
        texts: shape (n, categories), in the order of ``spec.categories``.
    """

    spec: FeatureSpec
    numbers: "NDArray[np.float32]"
    texts: "NDArray[np.object_]"

    def __len__(self) -> int:
        return len(self.numbers)

    def frame(self) -> "pd.DataFrame":
        """The frame that the estimators take, as that of a table is made."""
        import pandas as pd

        frame = pd.DataFrame(self.numbers, columns=self.spec.numbers)
        place = {name: i for i, name in enumerate(self.spec.categories)}
        for at, name in enumerate(self.spec.names):
            if name in place:
                frame.insert(at, name, pd.Series(self.texts[:, place[name]], dtype=object))
        return frame


class RowReader:
    """Reads rows for one model.

    Args:
        spec: of the model.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        numbers, texts = spec.numbers, spec.categories
        self._number = {name: i for i, name in enumerate(numbers)}
        self._text = {name: i for i, name in enumerate(texts)}
        by_name = {feature.name: feature for feature in spec.features}
        self._numbers = [0.0 if _zero(by_name[name]) else UNKNOWN for name in numbers]
        self._texts = [MISSING] * len(texts)
        self._columns = frozenset(feature.column for feature in spec.features)
        self._names = frozenset(by_name)
        self._take: dict[str, Take | None] = dict.fromkeys(
            (*KEYS, *spec.columns, *spec.ignored, *spec.constant)
        )
        self._take |= {
            column: self._of_map(column) for column in spec.keys if column in self._columns
        }
        self._take |= {name: self._of_scalar(feature) for name, feature in by_name.items()}
        self._take |= {
            feature.column: self._of_scalar(feature)
            for feature in spec.features
            if feature.key is None
        }

    def read(self, rows: Sequence[Row], *, extra: bool = False, partial: bool = False) -> FlatRows:
        """The flat features of rows.

        Args:
            rows: by name; None is unknown.
            extra: pass over names that the model does not know, instead of refusing them.
            partial: take a feature that a row does not name as unknown, instead of refusing it.

        Raises:
            UserError: a name is unknown or missing, or a value has the wrong type; the sentence
                lists them.
        """
        import numpy as np

        numbers, texts = [], []
        for number, row in enumerate(rows, 1):
            known, said = self._numbers.copy(), self._texts.copy()
            if not isinstance(row, Mapping):
                raise _refused(f"row {number} must be an object of features by name, and is not")
            if not partial and not (self._columns <= row.keys() or self._names <= row.keys()):
                self._require(number, row)
            self._read(number, row, known, said, extra=extra)
            numbers.append(known)
            texts.append(said)
        with np.errstate(over="ignore"):
            block = np.array(numbers, dtype=np.float64).astype(np.float32)
        block = block.reshape(len(rows), len(self._numbers))
        self._drop_infinite(block)
        named = np.array(texts, dtype=object).reshape(len(rows), len(self._texts))
        return FlatRows(self.spec, block, named)

    def _read(
        self, number: int, row: Row, known: list[float], said: list[str], *, extra: bool
    ) -> None:
        faults, foreign = [], []
        for name, value in row.items():
            try:
                take = self._take[name]
            except KeyError:
                foreign.append(str(name))
                continue
            if take is None:
                continue
            try:
                take(value, known, said)
            except ValueError as error:
                faults.append(f"{name}{error}")
        if foreign and not extra:
            faults.append(f"{_few(foreign)}: no feature of the model")
        if faults:
            raise _refused(f"row {number}: {'; '.join(faults[:_LISTED])}")

    def _require(self, number: int, row: Row) -> None:
        """Refuse a row that names neither a feature nor its column."""
        lacks = [
            feature.label
            for feature in self.spec.features
            if feature.name not in row and feature.column not in row
        ]
        if lacks:
            raise _refused(f"row {number} lacks {_few(lacks)}; null says that one is unknown")

    def _drop_infinite(self, block: "NDArray[np.float32]") -> None:
        """What is no finite number of single precision is as good as not there, as in SQL."""
        import numpy as np

        if not np.isfinite(block).all():
            default = np.array(self._numbers, dtype=np.float32)
            np.copyto(block, default[None, :], where=~np.isfinite(block))

    def _of_scalar(self, feature: Feature) -> Take:
        if feature.kind == "number":
            place, empty = self._number[feature.name], 0.0 if _zero(feature) else UNKNOWN

            def take_number(value: Any, known: list[float], _said: list[str]) -> None:
                known[place] = _number(value, empty)

            return take_number
        place, kept = self._text[feature.name], frozenset(feature.values)

        def take_text(value: Any, _known: list[float], said: list[str]) -> None:
            said[place] = _category(value, kept)

        return take_text

    def _of_map(self, column: str) -> Take:
        """Takes a mapping of a map column's keys."""
        own = [f for f in self.spec.features if f.column == column]
        rest = next((f for f in own if f.key == OTHER and f.values), None)
        takes = {f.key: self._of_scalar(f) for f in own if f is not rest}
        kept = frozenset(rest.values) if rest else frozenset()
        place = self._number[rest.name] if rest else -1

        def take_map(value: Any, known: list[float], said: list[str]) -> None:
            if value is None or value != value:
                return
            if not isinstance(value, Mapping):
                raise ValueError(f" must be an object by key, and is {_kind(value)}")
            others = 0.0
            for key, inner in value.items():
                try:
                    if (take := takes.get(key)) is not None:
                        take(inner, known, said)
                    if rest is not None and key not in kept:
                        amount = _number(inner, 0.0)
                        others += 0.0 if amount != amount else amount
                except ValueError as error:
                    raise ValueError(f"[{key[:60]}]{error}") from None
            if rest is not None:
                known[place] = others

        return take_map


def _zero(feature: Feature) -> bool:
    """Whether a number that is not there is 0 rather than unknown, as its SQL says."""
    return feature.kind == "number" and "null" not in feature.sql(present=False)


def _number(value: Any, empty: float) -> float:
    if value is None:
        return empty
    if isinstance(value, float):
        return value
    if isinstance(value, int | Decimal):  # true and false are of the first kind
        try:
            return float(value)
        except OverflowError:
            return empty
    raise ValueError(f" must be a number, and is {_kind(value)}")


def _category(value: Any, kept: Collection[str]) -> str:
    if isinstance(value, str):
        return value if value in kept or value == MISSING else OTHER
    if value is None or value != value:
        return MISSING
    raise ValueError(f" must be a text, and is {_kind(value)}")


def _kind(value: Any) -> str:
    """What a value of JSON is, in words; the value itself may be personal."""
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
    return kinds.get(type(value), "a list" if isinstance(value, list) else "an object")


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(name[:60] for name in names[:_LISTED]) + more


def _refused(sentence: str) -> UserError:
    return UserError(sentence, code="rows.refused")
