"""The settings file: each mistake is a sentence with its line and what to write instead."""

from pathlib import Path

import pytest

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import load_settings

MISTAKES = [
    ("# 设置\ngateway = twilio\n", "line 2: not valid TOML: ", 'write gateway = "twilio"'),
    ("churn_days = 7\nmemory_limit = 4GB\n", "line 2: ", 'write memory_limit = "4GB"'),
    ("timezone = “Asia/Shanghai”\n", "line 1: ", 'write timezone = "Asia/Shanghai"'),
    ("gateway: 'file'\n", "line 1: ", 'write a plain = after gateway, such as gateway = "file"'),
    ("timezone ＝ 'Asia/Shanghai'\n", "line 1: ", "write a plain = after timezone"),
    ("export_touches = True\n", "line 1: ", "write export_touches = true"),
    ("database_url = postgresql://ann:pass-word@db/x\n", "line 1: ", 'write database_url = "…"'),
    ("\n\nchurn_dyas = 7\n", "line 3: unknown setting 'churn_dyas'", "did you mean 'churn_days'?"),
    ("# churn_days = 3\nchurn_days = 'x'\n", "setting 'churn_days'", "line 2"),
    ("churn_days = 7\nremark = '春天'\n".encode("gbk"), "line 2: not UTF-8", "save the file as UTF-8"),
    ("a = " + "[" * 20_000, "not valid TOML", ""),
    ("a = '" + "x" * (2 << 20) + "'", "larger than", "is it the right file?"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "place", "remedy"), MISTAKES)
def test_a_mistake_names_its_line_and_what_to_write(
    tmp_path: Path, content: str | bytes, place: str, remedy: str
) -> None:
    """TOML's own words name a column and not the quotes that are missing; GBK was a traceback."""
    path = tmp_path / "usergrowth.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        load_settings(tmp_path)
    sentence = str(error.value)
    assert (
        str(path) in sentence
        and place in sentence
        and remedy in sentence
        and "pass-word" not in sentence
    )
    assert len(sentence) < 500


def test_a_mark_of_utf8_is_no_mistake(tmp_path: Path) -> None:
    """Notepad writes it in front of the first name."""
    (tmp_path / "usergrowth.toml").write_bytes("\ufeffchurn_days = 9\n".encode())
    assert load_settings(tmp_path).churn_days == 9
