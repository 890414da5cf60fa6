"""A campaign by e-mail from its file to the mail server, and what comes back."""

from collections import Counter
from pathlib import Path

from chain_world import approve, rows, write_campaign, write_people
from fastapi.testclient import TestClient
from smtp_server import MailBox, mail_server

from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.plans.plan import read_plan
from usergrowth_dagster.messaging.schedules.occurrences import occurrences_of
from usergrowth_dagster.pipeline.decide import decide_task
from usergrowth_dagster.pipeline.output import write_task_output
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.pipeline.score import score_task
from usergrowth_dagster.pipeline.send import plan_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.serve.app import make_app
from usergrowth_dagster.settings import load_settings

BOUNCE = """\
From: MAILER-DAEMON@mx.example
Date: Thu, 4 May 2017 10:20:30 +0800
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; someone@shop.example
Action: failed
Status: 5.2.1

--b
Content-Type: text/rfc822-headers

Message-ID: {message}

--b--
"""


def upload(home: Path, name: str) -> None:
    """The people of the world with an e-mail address; two have none, and one has a bad one."""
    source = home / "landing" / "population" / "care" / "population.csv"
    header, *people = source.read_text("utf-8").splitlines()[:61]
    lines = [f"{header},email"]
    for place, line in enumerate(people):
        user = line.partition(",")[0]
        address = {3: r"\N", 4: "", 5: "no address"}.get(place, f"{user}@shop.example")
        lines.append(f"{line},{address}")
    write_people(home, name, lines)


def decided(home: Path, project: Project, name: str) -> None:
    """A campaign by e-mail: its people uploaded, applied, approved and decided."""
    upload(home, name)
    content = "'亲爱的${name}，礼券等你来领。回T退订'"
    path = write_campaign(
        home,
        name,
        channel="email",
        selection="{top_n: 40}",
        template=f"{{name: {name}, subject: 新年礼券, content: {content}}}",
    )
    apply_campaign(project.store, load_campaign(path), "ann")
    approve(home, name)
    load_population(project, task(project.store, name))
    score_task(project, task(project.store, name))
    decide_task(project, task(project.store, name))
    write_task_output(project, task(project.store, name))


def states(project: Project) -> Counter[str]:
    ledger = Ledger(project.store, open_vault(project.settings.home))
    (occurrence,) = occurrences_of(project.store, "letters")
    return Counter(read_plan(ledger, occurrence).states)


def test_letters_go_out_bounce_and_are_refused(home: Path) -> None:
    """Guards against e-mails that go to phones, lack their subject, or go on after a refusal."""
    box = MailBox()
    with mail_server(box) as port:
        settings = load_settings(
            home,
            email_gateway="smtp",
            smtp_port=port,
            smtp_from="Example <news@shop.example>",
            callback_url="https://g.example/ug",
        )
        project = Project(settings)
        decided(home, project, "letters")
        planned = plan_task(project, task(project.store, "letters"))
        selected = "task_id = 'letters' and outcome = 'selected'"
        chosen = {user for (user,) in rows(home, "decisions", selected, "user_id")}
        refused = sorted(chosen)[0]
        box.replies = {f"{refused}@shop.example": "550 5.1.1 unknown"}
        counts = dispatch(project.store, settings)
        assert counts.accepted + counts.rejected == planned.people == len(chosen) > 20
        assert counts.rejected == 1
        assert set(box.counts()) == {f"{user}@shop.example" for user in chosen - {refused}}
        assert set(box.counts().values()) == {1}
    first, second, *_ = box.mails()
    assert first["Subject"] == "新年礼券"
    assert first.get_content().strip().startswith("亲爱的")
    assert "【" not in first.get_content()
    assert states(project) == {"accepted": len(chosen) - 1, "rejected": 1}
    with TestClient(make_app(settings), base_url="https://g.example") as service:
        bounce = BOUNCE.format(message=first["Message-ID"]).replace("\n", "\r\n").encode()
        assert service.post("/smtp/dlr", content=bounce).status_code == 200
        forged = bounce.replace(b"<ug.", b"<ug.9")
        assert service.post("/smtp/dlr", content=forged).status_code == 403
        link = second["List-Unsubscribe"].split(",")[0].strip("<> ")
        path = link.removeprefix("https://g.example/ug")
        assert service.get(path).status_code == 200  # a scanner of links refuses nothing
        assert service.post(path, content=b"List-Unsubscribe=One-Click").status_code == 200
    assert states(project) == {"accepted": len(chosen) - 2, "rejected": 1, "undelivered": 1}
    decided(home, project, "reminder")
    refuser = second["To"].addresses[0].addr_spec.partition("@")[0]
    outcomes = dict(rows(home, "decisions", "task_id = 'reminder'", "user_id, outcome"))
    assert [user for user, outcome in outcomes.items() if outcome == "suppressed"] == [refuser]
    project.store.close()
