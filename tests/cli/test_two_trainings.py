"""Two questions that are trained at once, in two processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chain_world import D, World, cli, copy_home, environment, errors, succeeded, write_campaign
from support.patience import PATIENCE, until

from usergrowth_dagster.learning.artifacts import read_artifacts
from usergrowth_dagster.learning.store import versions
from usergrowth_dagster.runs.training import has_room_for_two
from usergrowth_dagster.settings import load_settings


def untrained(world: World, home: Path) -> Path:
    """A home with two campaigns of two questions, and no model."""
    copy_home(world.landed, home)
    paths = [
        write_campaign(home, "care", training="{window_days: 60}"),
        write_campaign(home, "comeback", algorithm="{kind: winback}", training="{window_days: 90}"),
    ]
    succeeded(cli(home, "apply", *(part for path in paths for part in ("-f", str(path)))))
    return home


def start(home: Path) -> "subprocess.Popen[str]":
    """The command ``train``, left at work; in a session of its own, as from a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "usergrowth_dagster", "train", "--date", str(D)],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def other_process(parent: int) -> int:
    """The second process of a training, once it is there."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                above = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if above == parent and any(b"spawn_main" in word for word in words):
                return int(entry.name)
        time.sleep(0.05)
    raise AssertionError("no second process began")


def is_there(process: int) -> bool:
    """Whether a process is alive; one that has ended and waits for its parent is not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def await_gone(process: int) -> None:
    """Wait until a process has ended."""
    until(lambda: not is_there(process), "the second process's end", every=0.1)


def runs(home: Path) -> list[tuple[str, str]]:
    """Job and status of the Dagster runs of the trainings, oldest first."""
    code = (
        "from usergrowth_dagster.runs.execute import open_instance\n"
        "with open_instance() as instance:\n"
        "    for run in instance.get_runs():\n"
        "        if run.job_name == 'train': print(run.status.value)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(home, DAGSTER_HOME=str(home / "dagster")),
        capture_output=True,
        text=True,
        check=True,
    )
    return [("train", line) for line in reversed(done.stdout.split())]


def figures(home: Path, question: str) -> list[dict[str, object]]:
    """What is known of each version of a question's model, without times."""
    found = [read_artifacts(ref)[0] for ref in versions(load_settings(home), question)]
    return [{k: v for k, v in one.items() if k not in ("seconds", "made_from")} for one in found]


def test_models_are_those_of_one_process(world: World, tmp_path: Path) -> None:
    """Two processes that lose a model, make one twice, or make another than one process makes."""
    two = untrained(world, tmp_path / "two")
    said = succeeded(cli(two, "train", "--date", str(D)))
    assert [line for line in said.splitlines() if line.endswith("_model")] == [
        f"{name}_model" for name in ("churn", "winback")
    ]
    assert runs(two) == [("train", "SUCCESS")] * 2
    one = untrained(world, tmp_path / "one")
    succeeded(cli(one, "train", "--date", str(D), USERGROWTH_THREADS="1"))
    assert runs(one) == [("train", "SUCCESS")]
    for question in ("churn", "winback"):
        (made,), (expected,) = figures(two, question), figures(one, question)
        assert made["metrics"] == expected["metrics"]
        assert made["rows"] == expected["rows"]
        assert made["champion"] == expected["champion"]
    succeeded(cli(two, "train", "--date", str(D)))
    assert [len(figures(two, question)) for question in ("churn", "winback")] == [1, 1]


def test_failures_of_both_are_named(world: World, tmp_path: Path) -> None:
    """The sentence of a question that failed in the other process, lost."""
    home = untrained(world, tmp_path / "home")
    done = cli(home, "train", "--date", "2017-01-03")
    assert done.returncode == 2
    sentences = "\n".join(errors(done)) + done.stderr
    assert "care" in sentences and "comeback" in sentences


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_other_process_ends_early(world: World, tmp_path: Path, sent: signal.Signals) -> None:
    """A second process that dies: a command that waits for ever, or that reports success."""
    home = untrained(world, tmp_path / "home")
    command = start(home)
    other = other_process(command.pid)
    time.sleep(1)
    os.kill(other, sent)
    out, err = command.communicate(timeout=240)
    assert command.returncode not in (0, None), out
    assert "Traceback" not in out + err
    assert "error: " in err
    if sent is signal.SIGINT:
        return
    succeeded(cli(home, "train", "--date", str(D)))
    assert [len(figures(home, question)) for question in ("churn", "winback")] == [1, 1]


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [(signal.SIGKILL, 6.0), (signal.SIGINT, 0.0), (signal.SIGINT, 6.0), (signal.SIGTERM, 3.0)],
)
def test_no_process_outlives_the_command(
    world: World, tmp_path: Path, sent: signal.Signals, seconds: float
) -> None:
    """A command that is stopped, whose second process goes on unseen and holds the question."""
    home = untrained(world, tmp_path / "home")
    command = start(home)
    other = other_process(command.pid)
    time.sleep(seconds)
    command.send_signal(sent)
    out, err = command.communicate(timeout=120)
    assert command.returncode != 0
    await_gone(other)
    assert "Traceback" not in out + err
    if sent is signal.SIGINT:
        assert "interrupted; the same command goes on where this one stopped" in err


def test_room_for_two(tmp_path: Path) -> None:
    """A second process on a machine without the memory or the processor for it."""
    settings = load_settings(tmp_path)
    few = settings.model_copy(update={"threads": 2, "memory_limit": "64MiB"})
    assert has_room_for_two(few)
    for changes in ({"threads": 1}, {"memory_limit": "900TB"}, {"memory_limit": "80%"}):
        assert not has_room_for_two(few.model_copy(update=changes))
