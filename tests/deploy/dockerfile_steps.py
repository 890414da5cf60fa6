"""Run the steps of the image's build stage in a clean folder: `make image-check`.

Docker is not needed, so this finds a package without a wheel, a missing file and a broken command
wherever there is a Python of the image's version. The steps of the last stage need root and a Debian
of their own; they are checked as far as they copy and start what the build stage has made.
"""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
INSTALLED = "/opt/usergrowth"
STARTS = (
    ["usergrowth", "--version"],
    ["usergrowth", "init"],
    ["usergrowth", "doctor"],
    ["dagster", "definitions", "validate", "-m", "usergrowth_dagster.definitions"],
    ["dagster-webserver", "--help"],
    ["dagster-daemon", "--help"],
    ["mlflow", "server", "--help"],
    ["python", "-c", "import dagster_k8s, dagster_postgres, lightgbm, psycopg, twilio, rjieba"],
)
"""What the image must be able to do, after its build."""


def instructions() -> Iterator[tuple[str, str]]:
    """Instructions of the build stage: (word, rest)."""
    text = DOCKERFILE.read_text("utf-8").split("\nFROM ")[1]
    for line in re.sub(r"\\\n\s*", "", text).splitlines()[1:]:
        word, _, rest = line.partition(" ")
        if word.isupper():
            yield word, rest


def copied(sources: list[str], target: Path) -> None:
    """What COPY does: files into a folder, the content of one folder into another."""
    for source in sources:
        path = ROOT / source
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, target, dirs_exist_ok=True, ignore=ignored)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def build(folder: Path) -> None:
    """Run the build stage with ``folder`` as the root of its files."""
    place = folder
    for word, rest in instructions():
        began = time.monotonic()
        if word == "WORKDIR":
            place = folder / rest.lstrip("/")
            place.mkdir(parents=True)
        elif word == "COPY":
            *sources, target = rest.split()
            copied(sources, (place / target).resolve())
        elif word == "RUN":
            command = rest.replace(INSTALLED, f"{folder}{INSTALLED}")
            command = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", command)
            subprocess.run(["bash", "-c", command], cwd=place, check=True)
        else:
            raise SystemExit(f"{DOCKERFILE}: {word} is not known here")
        print(f"{time.monotonic() - began:6.1f} s  {word} {rest}", flush=True)


def start(folder: Path) -> None:
    """Start what the image is for, with nothing of the checkout in sight."""
    home = folder / "home"
    environment = {
        "PATH": f"{folder}{INSTALLED}/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "USERGROWTH_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
    }
    for command in STARTS:
        began = time.monotonic()
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        print(f"{time.monotonic() - began:6.1f} s  {shlex.join(command)}", flush=True)


def main() -> None:
    """Build, start, and say how large the result is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder to build in, which is kept")
    kept = parser.parse_args().keep
    folder = Path(tempfile.mkdtemp(prefix="image-")) if kept is None else kept.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        build(folder)
        start(folder)
        installed = folder / INSTALLED.lstrip("/")
        size = sum(one.stat().st_size for one in installed.rglob("*") if one.is_file())
        print(f"{size / 1e9:.2f} GB in {INSTALLED}")
    finally:
        if kept is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
