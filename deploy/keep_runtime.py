"""Take out of an environment what a project does not need when it runs.

The lock holds every package, with those of tests and documentation, and its hashes hold for all of
them together. So an image installs all, and this leaves what the project and some of its extras
need: ``python keep_runtime.py usergrowth-dagster[postgres]``.
"""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

KEPT = ("pip", "packaging")
"""What this program itself needs."""


def needed(project: str) -> set[str]:
    """Names of the installed packages that a project needs, itself among them.

    Args:
        project: its name, and the extras that are wanted: ``name[extra,other]``.

    Raises:
        importlib.metadata.PackageNotFoundError: a package that must be there is not installed.
    """
    waiting = [Requirement(project)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        for extra in ("", *one.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [
                    more
                    for more in map(Requirement, requires(name) or ())
                    if more.marker is None or more.marker.evaluate({"extra": extra})
                ]
    return {name for name, _ in seen}


def surplus(project: str) -> list[str]:
    """Names of the installed packages that a project does not need."""
    installed = {canonicalize_name(one.name) for one in distributions()}
    return sorted(installed - needed(project) - set(KEPT))


def main() -> None:
    """Uninstall what is not needed."""
    try:
        names = surplus(sys.argv[1])
    except PackageNotFoundError as error:
        sys.exit(f"{error.name} is needed and not installed")
    print(f"taking out {len(names)} packages that nothing needs at run time")
    subprocess.run(
        [sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", *names], check=True
    )


if __name__ == "__main__":
    main()
