"""The hash of code that trains, scores and decides: what changes it, and what does not."""

import ast
import inspect
from pathlib import Path

import pytest

from usergrowth_dagster import code_meaning as meaning
from usergrowth_dagster.code_meaning import SHOWN, code_meaning, source_hash
from usergrowth_dagster.learning.problems import problem_called
from usergrowth_dagster.pipeline.provenance import code_version
from usergrowth_dagster.training import training_code
from usergrowth_dagster.training.training_code import (
    SAME_RESULTS,
    earlier_training_versions,
    learning_hash,
    question_hash,
    training_code_version,
)
from usergrowth_dagster.warehouse import earlier

SOURCE = '''
"""Text."""
from typing import TYPE_CHECKING
from usergrowth_dagster.days import one
import usergrowth_dagster.errors
from .near import two
if TYPE_CHECKING:
    import numpy

LIMIT = 3
class A:
    """Text."""
    x: int = 1
class B:
    """Nothing but text."""
def f(x):
    """Text."""
    return "a" if x < LIMIT else one(x)  # a comment
def g():
    raise UserError("text", code="task.unknown")
'''


def package(root: Path, modules: dict[str, str]) -> Path:
    """A package of some modules."""
    for name, text in modules.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return root


def hash_of(root: Path, modules: dict[str, str], *parts: str, **without: tuple[str, ...]) -> str:
    """The hash of some parts of a package that is made for it."""
    package(root, modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meaning.resources, "files", lambda _: root)
        return source_hash.__wrapped__(parts, **without)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another"),
        ('"""Text."""', '"""Other words."""'),
        ('"""Nothing but text."""', "pass"),
        ("LIMIT = 3", "LIMIT  =  (3)  # why"),
        ("from usergrowth_dagster.days import one", "from usergrowth_dagster.dates import one"),
        ("from .near import two", "from .far import two"),
        ("    import numpy", "    import pandas"),
        ("def f(x):\n", "def f(\n    x,\n):\n"),
        (', code="task.unknown"', ""),
        ('code="task.unknown"', 'code="model.unknown", hint="look"'),
    ],
)
def test_code_that_does_the_same_means_the_same(old: str, new: str) -> None:
    """A corrected comment, or a module in another folder, that trains every model again."""
    assert old in SOURCE
    assert code_meaning(SOURCE.replace(old, new)) == code_meaning(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("x < LIMIT", "x <= LIMIT"),
        ('"a" if', '"b" if'),
        ("x: int = 1", "x: float = 1"),
        ("one(x)", "two(x)"),
        ("LIMIT = 3", "import numpy\nLIMIT = 3"),
        ("def f(x):", "def f(x=1):"),
        ("class A:", "class A(dict):"),
        ("raise UserError(", "return UserError("),
        ("UserError(", "OtherError("),
        ('code="task.unknown"', 'kind="task.unknown"'),
    ],
)
def test_code_that_does_something_else_means_something_else(old: str, new: str) -> None:
    """A model that stands although other code would train another one."""
    assert old in SOURCE
    assert code_meaning(SOURCE.replace(old, new)) != code_meaning(SOURCE)


@pytest.mark.parametrize("module", ["calibration", "encoding", "estimators"])
def test_every_constant_of_what_learns_is_part_of_its_meaning(module: str) -> None:
    """A form that drops a part of the code, so that its change is not seen."""
    path = Path(meaning.__file__).parent / "learning" / f"{module}.py"
    source = path.read_text("utf-8")
    numbers = [node for node in ast.walk(ast.parse(source)) if _is_number(node)]
    forms = {code_meaning(source)}
    for place in range(len(numbers)):
        tree = ast.parse(source)
        node = [node for node in ast.walk(tree) if _is_number(node)][place]
        node.value += 7_919  # type: ignore[attr-defined]
        forms.add(code_meaning(ast.unparse(tree)))
    assert numbers and len(forms) == len(numbers) + 1


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def test_a_moved_module_changes_no_hash(tmp_path: Path) -> None:
    """A folder that is renamed and trains every model again."""
    modules = {"a/one.py": "X = 1\n", "a/two.py": "Y = 2\n"}
    first = hash_of(tmp_path / "first", modules, "a")
    moved = {"b/one.py": "X = 1\n", "c/d/second.py": "Y = 2\n"}
    assert hash_of(tmp_path / "second", moved, "b", "c") == first
    assert hash_of(tmp_path / "third", {**modules, "a/two.py": "Y = 3\n"}, "a") != first
    assert hash_of(tmp_path / "fourth", {**modules, "a/three.py": "Z = 3\n"}, "a") != first
    assert hash_of(tmp_path / "fifth", {**modules, "a/text.txt": "words"}, "a") == first
    shown = {**modules, "a/card.py": "words = 1\n"}
    assert hash_of(tmp_path / "sixth", shown, "a", without=("a/card.py",)) == first


@pytest.mark.parametrize(
    ("parts", "without"),
    [(("nowhere",), ()), (("a", "a/three.py"), ()), (("a",), ("a/three.py",)), (("empty",), ())],
)
def test_a_part_that_does_not_exist_is_an_error(
    parts: tuple[str, ...], without: tuple[str, ...], tmp_path: Path
) -> None:
    """A renamed folder whose hash is then that of nothing, for ever the same."""
    modules = {"a/one.py": "X = 1\n", "empty/words.txt": "none"}
    with pytest.raises(ValueError, match="has no"):
        hash_of(tmp_path, modules, *parts, without=without)


def test_the_parts_of_the_product_exist() -> None:
    """A decision whose record of its code leaves a part out."""
    assert len(code_version()["source"]) == 16
    assert source_hash(("learning",)) != source_hash(("learning",), without=SHOWN)


def test_a_model_of_an_earlier_home_is_known_by_its_earlier_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An upgrade that trains every model again, or that keeps one which other code has trained."""
    assert learning_hash() == SAME_RESULTS[0], (
        "the code that learns has changed: put its hash at the front of SAME_RESULTS of "
        "training/training_code.py when every figure stays what it was, else in place of all of them: "
        "each model is then trained once more"
    )
    churn, winback = problem_called("churn"), problem_called("winback")
    questions = (churn, winback, problem_called("uplift"))
    known = {problem.name: earlier_training_versions(problem) for problem in questions}
    assert {name: versions[-3:] for name, versions in known.items()} == {
        "churn": ("9196a91f5efb", "a11e992fed43", "214a859d35a9"),
        "winback": ("419409d8cff1", "ff2a0bc6e3ef", "ce742353b2ee"),
        "uplift": ("720dd5899572", "362f2f273642", "7d4c18aeb458"),
    }, "what one hash of learning and questions, and two texts of the code, were called"
    every = {version for versions in known.values() for version in versions}
    assert not every & {training_code_version(problem) for problem in questions}
    changed = {**earlier.TEXT_VERSIONS, "churn_label": ("other SQL", "text")}
    monkeypatch.setattr(earlier, "TEXT_VERSIONS", changed)
    assert set(earlier_training_versions(churn)) == set(known["churn"][:-2])
    assert earlier_training_versions(winback) == known["winback"]
    monkeypatch.undo()
    monkeypatch.setattr(churn, "asked_before", "another question")
    assert not set(earlier_training_versions(churn)) & set(known["churn"][-3:])
    assert earlier_training_versions(winback) == known["winback"]
    monkeypatch.undo()
    monkeypatch.setattr(training_code, "SAME_RESULTS", ("other code",))
    assert earlier_training_versions(churn) == ()


def test_another_question_changes_no_version_and_another_label_does() -> None:
    """A question of one's own that trains every model again, or a label whose change is not seen.

    The words of a question are no part of it: a better sentence trains nothing again.
    """
    churn, winback = problem_called("churn"), problem_called("winback")
    path = Path(inspect.getfile(churn))
    source = path.read_text("utf-8")

    def hash_with(old: str, new: str) -> str:
        assert old in source
        with pytest.MonkeyPatch.context() as patch:
            text = source.replace(old, new)
            patch.setattr(training_code.inspect, "getsource", lambda _: text)
            return question_hash(churn)

    now = question_hash(churn)
    assert now == churn.asked_before != question_hash(winback) == winback.asked_before
    assert hash_with('score="chance', 'score="odds') == now
    assert hash_with("How likely is", "Will") == now
    assert hash_with("has_churned(", "not has_churned(") != now
    assert hash_with("staying = True", "staying = False") != now
    questions = ("learning/problems",)
    assert source_hash(("learning",), without=SHOWN) != learning_hash()
    assert source_hash(("learning",), without=SHOWN, below=questions) == learning_hash()
