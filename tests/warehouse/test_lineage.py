"""Which columns a column is made from, kept in a home."""

import json
from pathlib import Path

import pytest

from usergrowth_dagster.warehouse import lineage
from usergrowth_dagster.warehouse.models import load_graph

MODEL = "daily_activity"


def test_lineage_is_kept_until_its_model_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lineage is found anew in every run, or stays that of a model as it was."""
    graph, folder = load_graph(), tmp_path / "lineage"
    plain = lineage.column_lineage(graph, MODEL)
    assert plain and any(plain.values())
    computed: list[str] = []

    def find(_: object, model: str) -> object:
        computed.append(model)
        return plain

    monkeypatch.setattr(lineage, "column_lineage", find)
    assert lineage.kept_lineage(graph, MODEL, folder) == plain
    assert lineage.kept_lineage(graph, MODEL, folder) == plain
    assert computed == [MODEL]
    file = folder / f"{MODEL}.json"
    for content in ("{", "[]", json.dumps({"key": json.loads(file.read_text())["key"]})):
        file.write_text(content)
        assert lineage.kept_lineage(graph, MODEL, folder) == plain
    assert len(computed) == 4
    monkeypatch.setattr(type(graph), "code_version", lambda *_: "another")
    assert lineage.kept_lineage(graph, MODEL, folder) == plain
    assert len(computed) == 5
    assert lineage.kept_lineage(graph, MODEL, tmp_path / "none" / "x") == plain
