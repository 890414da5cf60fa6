"""The version of the code that trains: a model of the same data and the same version is kept."""

import ast
import hashlib
import inspect
import json
import sys

from usergrowth_dagster.code_meaning import SHOWN, code_meaning, installed, source_hash
from usergrowth_dagster.learning.problems.base import Problem
from usergrowth_dagster.warehouse.earlier import rows_version, text_version
from usergrowth_dagster.warehouse.models import load_graph

SAME_RESULTS = (
    "ff85b073e19c2a21",
    "b0b3839aa1e15197",
    "f031531e2bd48797",
    "288466f76d9aa5a2",
    "da6e3b91f93b0433",
    "88374ae660891134",
    "e32328e9fe16a3d2",
    "0f6ea4fc821e0a52",
    "88b22c4867a46c1d",
    "cc059e336dfd5831",
    "4f2b26c098134a75",
    "628e947c715ef049",
    "38e50cf5cd8d568c",
    "b4954f02721d1694",
    "9a28fee6d5cad8c3",
    "09707bfe338dd1ba",
)
"""Hashes of code that learns what the code of :data:`_WITH_QUESTIONS` learned, newest first.

Whoever changes the code that learns and keeps every figure puts its new hash at the front.
Otherwise the hashes stay, and each model is trained once more.
"""

_WITH_QUESTIONS = ("2707f829a21916ad",)  # of what learns, the questions included; newest first
_TEXT_HASHES = ("98f7e6150a69ade7", "566cf6147777b072")  # of the folder's text, newest first
_TEXT_PACKAGE = "0.1.0"
_QUESTIONS = "learning/problems"
_WORDS = (
    *("words", "aliases", "asked_before", "question", "about", "narrowed", "without_rows"),
    "more_days",
)


def training_code_version(problem: type[Problem]) -> str:
    """Hash of what learns and what it learns with, of the question, and of its training rows."""
    return _version(problem, learning_hash(), question_hash(problem))


def learning_hash() -> str:
    """Hash of what the code that learns does, without pictures, cards, reviews and questions."""
    return source_hash(("learning",), without=SHOWN, below=(_QUESTIONS,))


def question_hash(problem: type[Problem]) -> str:
    """Hash of what a question asks, wherever it is defined; its words are no part of it."""
    modules = {
        one.__module__ for one in problem.__mro__ if issubclass(one, Problem) and one is not Problem
    }
    hashes = []
    for module in sorted(modules):
        tree = ast.parse(inspect.getsource(sys.modules[module]))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                node.body = [one for one in node.body if not _is_words(one)] or [ast.Pass()]
        hashes.append(hashlib.sha256(code_meaning(ast.unparse(tree)).encode()).hexdigest())
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()[:16]


def _is_words(node: ast.stmt) -> bool:
    """Whether a statement of a class only says what people read."""
    if isinstance(node, ast.FunctionDef):
        return node.name in _WORDS
    names = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(name, ast.Name) and name.id in _WORDS for name in names)


def earlier_training_versions(problem: type[Problem]) -> tuple[str, ...]:
    """The versions of earlier code that computes what it computes now, newest first."""
    now = learning_hash()
    if now not in SAME_RESULTS:
        return ()
    own = question_hash(problem)
    versions = [_version(problem, other, own) for other in SAME_RESULTS if other != now]
    if problem.asked_before != own:
        return tuple(versions)
    versions += [_version(problem, other) for other in _WITH_QUESTIONS]
    graph = load_graph()
    chain = graph.chain(problem.training_table())
    texts = [text_version(model, graph.code_version(model)) for model in chain]
    if None in texts:
        return tuple(versions)
    programs = json.dumps(installed() | {"usergrowth": _TEXT_PACKAGE})
    versions += [_hash(programs, text, *filter(None, texts)) for text in _TEXT_HASHES]
    return tuple(versions)


def _version(problem: type[Problem], *code: str) -> str:
    """The version of a training by hashes of its code."""
    graph = load_graph()
    libraries = {name: version for name, version in installed().items() if name != "usergrowth"}
    chain = graph.chain(problem.training_table())
    rows = (rows_version(model, graph.code_version(model)) for model in chain)
    return _hash(json.dumps(libraries, sort_keys=True), *code, *rows)


def _hash(*parts: str) -> str:
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]
