"""What applying a campaign says of texts and uploads that can be sent and would look odd."""

from pathlib import Path

from chain_world import write_campaign, write_people

from usergrowth_dagster.campaigns.files import apply_files
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project


def test_apply_warns_of_html_codes_and_words_for_no_value(tmp_path: Path) -> None:
    """``Dear O&#39;Brien`` and ``Dear nan`` were first seen on the phones of customers."""
    settings = make_home(tmp_path / "home", {"start_date": "2024-01-01"})
    home = settings.home
    write_people(home, "care", [
        "user_id,item_id,phone,name", "u1,i,+447700900161,O&#39;Brien", "u2,i,+447700900162,nan", "u3,i,+447700900163,Li & Co; A&B",
    ])  # fmt: skip
    path = write_campaign(
        home, "care", execution_date="2024-01-09", training='{window_days: 60}',
        template="{name: care, content: 'Tom &amp; ${name}, come back. 拒收请回复R'}",
    )  # fmt: skip
    (applied,) = apply_files(Project(settings), [path], "tests")
    assert [*applied.notices] == [
        "template.content: &amp; is shown as it stands, since a text is no HTML; write the characters themselves",
        "population/care: column name says nan 1 times; no value is written \\N",
        "population/care: column name has HTML codes such as &#39; in 1 values, which a text shows as they are; write the characters themselves",
    ]
