"""The commands in a home that has nothing in it yet, and the help that a newcomer reads."""

import re
import stat
import tomllib
from pathlib import Path

from chain_world import approve, campaign, cli, control_dump, errors, succeeded

COMMANDS = ("init", "apply", "review", "run", "backfill", "status", "doctor", "dev", "demo")


def test_help_reads_well(tmp_path: Path) -> None:
    """A command without a sentence of what it does, or help that makes folders."""
    printed = succeeded(cli(tmp_path / "none", "--help"))
    for name in COMMANDS:
        assert f"  {name}" in printed
        page = succeeded(cli(tmp_path / "none", name, "--help"))
        assert len(page.splitlines()) > 4 and "--home" in page
        sentence = page.splitlines()[2].strip()
        assert sentence[0].isupper() and len(sentence) > 30, (name, sentence)
    assert list(tmp_path.iterdir()) == []


def test_every_command_in_an_empty_home(tmp_path: Path) -> None:
    """A command that works only after the first run: a table, a model, a task that is not there."""
    home = tmp_path / "my home"
    made = succeeded(cli(home, "init", "--timezone", "Europe/Berlin", "--start-date", "20190301"))
    assert str(home) in made and "usergrowth apply" in made
    written = tomllib.loads((home / "usergrowth.toml").read_text(encoding="utf-8"))
    assert written == {"timezone": "Europe/Berlin", "start_date": "2019-03-01"}
    folders = {path.name for path in (home / "landing").iterdir()}
    assert folders == {"user", "item", "behavior", "operation", "population"}
    before = [line for line in control_dump(home) if 'INTO "meta"' not in line]

    status = cli(home, "status")
    printed = succeeded(status)
    assert all(title in printed for title in ("Tables", "Models", "Tasks", "Messages"))
    assert "INFO" not in status.stderr  # MLflow says that it makes its tables
    doctor = cli(home, "doctor")
    printed = succeeded(doctor)
    assert "FAILS" not in printed and "0 versions" in printed
    assert re.search(r"code location +ok +[1-9]\d* assets", printed)
    ran = cli(home, "run", "--date", "2019-04-01")
    assert "2019-04-01 has no task, since there is no campaign yet" in errors(ran)[0]
    assert "nothing has landed from" in ran.stdout + ran.stderr
    filled = cli(home, "backfill", "--from", "2019-04-01", "--to", "2019-04-03", "--only-ingest")
    assert "nothing has landed from 2019-03-31 to 2019-04-03" in errors(filled)[0]
    assert "No table had anything new" in filled.stdout
    assert [line for line in control_dump(home) if 'INTO "meta"' not in line] == before
    assert not (home / "outbox").exists()

    # once more with the same settings: nothing happens; with others: a sentence
    with (home / "usergrowth.toml").open("a", encoding="utf-8") as settings:
        settings.write("# a note of mine\n")
    succeeded(cli(home, "init", "--timezone", "Europe/Berlin", "--start-date", "2019-03-01"))
    assert "other settings already" in errors(cli(home, "init", "--timezone", "Asia/Tokyo"))[0]
    assert "a note of mine" in (home / "usergrowth.toml").read_text(encoding="utf-8")


def test_a_bad_setting_makes_no_home(tmp_path: Path) -> None:
    """A home is made with a setting that every later command refuses."""
    home = tmp_path / "home"
    sentences = errors(cli(home, "init", "--timezone", "Mars/Olympus"))
    assert sentences == [sentences[0]] and "'Mars/Olympus' is not an IANA time zone" in sentences[0]
    assert not home.exists()
    succeeded(cli(home, "init"))
    (home / "usergrowth.toml").write_text("churn_dyas = 7\n", encoding="utf-8")
    for arguments in (("status",), ("run",), ("doctor",)):
        assert "churn_dyas" in errors(cli(home, *arguments))[0]
    (home / "usergrowth.toml").write_text("churn_days = \n", encoding="utf-8")
    assert "not valid TOML" in errors(cli(home, "status"))[0]


def test_doctor_names_what_is_wrong(tmp_path: Path) -> None:
    """The doctor says "ok" of a home that cannot work, or ends at the first thing."""
    nowhere = errors(cli(tmp_path / "none", "doctor"))
    assert any("make one with usergrowth init" in line for line in nowhere)
    home = tmp_path / "home"
    succeeded(cli(home, "init"))
    (home / "landing" / "user" / "2019-03-01").mkdir()
    (home / "control.db").write_bytes(b"this is no database, whatever its name says" * 100)
    sentences = errors(cli(home, "doctor"))
    assert any("a day's folder is named ds=yyyymmdd" in line for line in sentences)
    assert any(line.startswith("error: control store: ") for line in sentences)
    assert len(sentences) == 2


def test_apply_and_review(tmp_path: Path) -> None:
    """A review that cannot be read back, or a change of text that stays approved."""
    home = tmp_path / "home"
    succeeded(cli(home, "init"))
    path = tmp_path / "spring.yaml"
    path.write_text(campaign("spring"), encoding="utf-8")
    printed = succeeded(cli(home, "apply", "-f", str(path)))
    assert "created campaign 'spring'" in printed and "created task 'spring'" in printed
    approve(home, "spring")
    printed = succeeded(
        cli(home, "review", "template", "spring", "--reject", "--reason", "too loud")
    )
    assert printed.strip() == "template 'spring' is rejected"
    path.write_text(campaign("spring").replace("come back", "please come back"), encoding="utf-8")
    printed = succeeded(cli(home, "apply", "-f", str(path)))
    assert "must be reviewed again" in printed
    printed = succeeded(cli(home, "review", "template", "spring"))
    assert printed.strip() == "template 'spring' is approved"
    assert "spring" in succeeded(cli(home, "status"))


def test_the_key_is_nobody_elses(tmp_path: Path) -> None:
    """The key of the encrypted phones can be read by every user of the machine."""
    home = tmp_path / "home"
    succeeded(cli(home, "init"))
    succeeded(cli(home, "status"))
    key = home / "secret.key"
    if key.exists():
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
