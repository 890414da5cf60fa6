"""The version of the code that trains: a model of the same data and the same version is kept."""

import hashlib
import json

from usergrowth_dagster.learning.config import Algorithm
from usergrowth_dagster.tasks.code_meaning import SHOWN, source_hash
from usergrowth_dagster.tasks.features import TRAINING_CHAIN
from usergrowth_dagster.tasks.provenance import installed
from usergrowth_dagster.warehouse.earlier import text_version
from usergrowth_dagster.warehouse.models import load_graph

SAME_RESULTS = "2707f829a21916ad"
"""Hash of the code that learns as that of :data:`_TEXT_HASHES` did.

Whoever changes that code writes its new hash here when every figure stays what it was; otherwise
the hash of before stays, and each model is trained once more.
"""

_TEXT_HASHES = ("98f7e6150a69ade7", "566cf6147777b072")  # of the folder's text, newest first
_TEXT_PACKAGE = "0.1.0"


def training_code_version(algorithm: Algorithm) -> str:
    """Hash of what learns and what it learns with, and of the SQL of the training set."""
    graph = load_graph()
    libraries = {name: version for name, version in installed().items() if name != "usergrowth"}
    return _hash(
        json.dumps(libraries, sort_keys=True),
        learning_hash(),
        *(graph.code_version(model) for model in TRAINING_CHAIN[algorithm]),
    )


def learning_hash() -> str:
    """Hash of what the code that learns does, without pictures, cards and reviews."""
    return source_hash(("learning",), without=SHOWN)


def earlier_training_versions(algorithm: Algorithm) -> tuple[str, ...]:
    """The versions when they were hashes of texts, of code that computes what it computes now."""
    graph = load_graph()
    chain = TRAINING_CHAIN[algorithm]
    texts = [text_version(model, graph.code_version(model)) for model in chain]
    if learning_hash() != SAME_RESULTS or None in texts:
        return ()
    programs = json.dumps(installed() | {"usergrowth": _TEXT_PACKAGE})
    return tuple(_hash(programs, text, *filter(None, texts)) for text in _TEXT_HASHES)


def _hash(*parts: str) -> str:
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]
