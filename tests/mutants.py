"""Changes code a little, one place at a time, and prints the changes that no test notices.

mutmut does the work, in a virtual environment of its own that sees the packages of ``.venv``: it is
no dependency of the project. Whatever is changed is a copy in ``build/mutants``.

    make mutants FILES=usergrowth_dagster/effects/interim.py TESTS=tests/effects/test_interim.py

A change that no test notices is either of no consequence (``strict=True`` of a ``zip`` whose parts are
equally long) or a test that is missing. Values of a module and decorated functions are not changed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

MUTMUT = "mutmut==3.8.1"
ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "mutants"
CONFIG = """
[tool.mutmut]
source_paths = ["usergrowth_dagster"]
only_mutate = {files}
pytest_add_cli_args = {options}
pytest_add_cli_args_test_selection = {tests}
also_copy = ["sql", "dbt_like_models", "docs", "README.md", "Makefile", "requirements.lock"]
process_isolation = "forkserver"
track_dependencies = false
timeout_constant = 60.0
"""


def tool() -> Path:
    """The program mutmut, installed where it is missing."""
    place = PLACE / "venv"
    program = place / "bin" / "mutmut"
    if not program.exists():
        venv.create(place, with_pip=True, clear=True)
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        shared = place / "lib" / python / "site-packages" / "shared.pth"
        shared.write_text(f"{sysconfig.get_path('purelib')}\n")
        subprocess.run([place / "bin" / "pip", "install", "--quiet", MUTMUT], check=True)
    return program


def copied(files: list[str], tests: list[str], options: list[str]) -> Path:
    """A copy of the files that git knows, with the settings of this run."""
    place = PLACE / "project"
    shutil.rmtree(place, ignore_errors=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    known = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, known.split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)
    config = CONFIG.format(
        files=json.dumps(files), tests=json.dumps(tests), options=json.dumps(options)
    )
    with (place / "pyproject.toml").open("a", encoding="utf-8") as project:
        project.write(config)
    return place


def main() -> int:
    """Run mutmut on some files; returns 1 when a change goes unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", nargs="+", required=True, help="files whose code is changed")
    parser.add_argument("--tests", nargs="+", required=True, help="tests that must notice")
    parser.add_argument(
        "--only", default="", help="pytest's -k expression, to leave slow tests out"
    )
    given = parser.parse_args()
    for name in given.files:
        if not (ROOT / name).is_file():
            parser.error(f"there is no file {name}")
    options = ["-p", "no:xdist", "-p", "no:cacheprovider"]
    if given.only:
        options += ["-k", given.only]
    program = tool()
    place = copied(given.files, given.tests, options)
    subprocess.run([program, "run", "--max-children", "1"], cwd=place, check=True)
    results = subprocess.run([program, "results"], cwd=place, check=True, capture_output=True)
    unnoticed = [
        line.split(":")[0].strip()
        for line in results.stdout.decode().splitlines()
        if line.strip().endswith(("survived", "no tests"))
    ]
    for name in unnoticed:
        subprocess.run([program, "show", name], cwd=place, check=True)
    print(f"{len(unnoticed)} changes that no test noticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
