"""Virtual environments of rivals, whose packages are none of the product's."""

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent


def python_with(requirements: str, folder: Path) -> Path:
    """The interpreter of an environment with the packages of a file here; made when missing."""
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not python.exists():
        print(f"making {folder} from {requirements} …", flush=True)
        venv.create(folder, with_pip=True)
    wanted = str(HERE / requirements)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
    return python
