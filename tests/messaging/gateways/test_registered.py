"""Gateways are registered classes: one of a package outside sends and gets its receipts."""

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from support.ledger_rows import rows
from support.phones import phone
from support.sending import crowd, plan, ready

import usergrowth_dagster
from docs_site import gateways as gateways_page
from docs_site import settings as settings_page
from usergrowth_dagster import plugins
from usergrowth_dagster.control import schema
from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.gateways import registry
from usergrowth_dagster.messaging.gateways.registry import gateways, make_gateway
from usergrowth_dagster.serve.app import make_app
from usergrowth_dagster.serve.listening import addresses
from usergrowth_dagster.settings import load_settings, settings_class

PIGEON = '''
"""Carrier pigeons: a message is a file in the loft."""

import json
from pathlib import Path

from pydantic import Field

from usergrowth_dagster.messaging.credentials import credential
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Brings,
    CallbackAnswer,
    Found,
    Gateway,
    Receipt,
    Reply,
    Result,
    UnsignedError,
)
from usergrowth_dagster.settings.gateways import GatewaySettings


class PigeonSettings(GatewaySettings):
    pigeon_loft: str | None = Field(None, description="where the pigeons start")


class PigeonGateway(Gateway):
    name = "pigeon"
    settings_model = PigeonSettings
    credentials = ("pigeon_ring",)
    looks_up = "no: a pigeon says nothing"
    personal_codes = frozenset({"hawk"})
    routes = {"landed": Brings.RECEIPTS, "returned": Brings.REPLIES}

    def submit(self, batch):
        loft = Path(PigeonSettings.of(self.settings).pigeon_loft)
        for message in batch.messages:
            (loft / message.out_id).write_text(message.text, "utf-8")
        return [Result(m.out_id, Answer.ACCEPTED, "flown", f"ring-{m.out_id}") for m in batch.messages]

    def parse_receipts(self, callback):
        return [Receipt(Found.DELIVERED, out_id=one) for one in self._read(callback)]

    def parse_replies(self, callback):
        return [Reply(phone=number, content=text) for number, text in self._read(callback).items()]

    def _read(self, callback):
        if callback.header("Ring") != credential(self.settings.home, "pigeon_ring"):
            raise UnsignedError("pigeon: the ring is another one")
        return json.loads(callback.body)

    @classmethod
    def confirm(cls, brings, items):
        return CallbackAnswer("coo", "text/plain")
'''

Install = Callable[[str, str], None]


def forget_gateways() -> None:
    """Let the next question for a gateway look at what is installed now."""
    for known in (
        plugins.registered,
        plugins.loaded,
        gateways,
        registry.is_personal,
        settings_class,
    ):
        known.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package: a module and its entry points, as ``pip install`` leaves them."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def put(module: str, entry_points: str) -> None:
        package = f"carrier_{len(list(site.iterdir()))}"
        (site / f"{package}.py").write_text(module, "utf-8")
        info = site / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = entry_points.replace("MODULE", package)
        (info / "entry_points.txt").write_text(f"[usergrowth.gateways]\n{lines}\n")
        forget_gateways()

    yield put
    monkeypatch.undo()
    for module in [name for name in sys.modules if name.startswith("carrier_")]:
        del sys.modules[module]
    forget_gateways()


def test_a_gateway_from_outside_sends_and_gets_its_receipts(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a second place that has to know a gateway's name."""
    install(PIGEON, "pigeon = MODULE:PigeonGateway")
    loft = tmp_path / "loft"
    loft.mkdir()
    monkeypatch.setenv("USERGROWTH_GATEWAY", "pigeon")
    monkeypatch.setenv("USERGROWTH_FICTIONAL_NUMBERS", "true")
    monkeypatch.setenv("USERGROWTH_PIGEON_LOFT", str(loft))
    monkeypatch.setenv("USERGROWTH_PIGEON_RING", "ring of the year")
    store, settings = ready(tmp_path / "home", f"sqlite:///{tmp_path / 'control.db'}")
    plan(store, settings, crowd(3))

    counts = dispatch(store, settings)

    messages = rows(store, schema.message)
    assert counts.accepted == 3 and {row["state"] for row in messages} == {"accepted"}
    assert sorted(path.name for path in loft.iterdir()) == sorted(
        str(row["id"]) for row in messages
    )
    with TestClient(make_app(settings)) as client:
        ids = [str(row["id"]) for row in messages[:2]]
        assert client.post("/pigeon/landed", json=ids).status_code == 403
        landed = client.post("/pigeon/landed", json=ids, headers={"Ring": "ring of the year"})
        assert (landed.status_code, landed.text) == (200, "coo")
        stop = {phone(2): "STOP"}
        returned = client.post("/pigeon/returned", json=stop, headers={"Ring": "ring of the year"})
        assert (returned.status_code, returned.text) == (200, "coo")
        assert client.post("/pigeon/dlr", json=ids).status_code == 404
    assert [row["state"] for row in rows(store, schema.message)] == [
        "delivered",
        "delivered",
        "accepted",
    ]
    assert [row["reason"] for row in rows(store, schema.suppression)] == ["reply"]
    store.close()
    assert [path for _, path in addresses(settings, 1)][-2:] == [
        "http://127.0.0.1:1/pigeon/dlr",
        "http://127.0.0.1:1/pigeon/mo",
    ]
    assert registry.is_personal("hawk") and not registry.is_personal("storm")
    assert "`pigeon`" in gateways_page.page() and "`pigeon_loft`" in settings_page.page()


def test_a_setting_belongs_to_an_installed_gateway(install: Install, tmp_path: Path) -> None:
    """Guards against settings of gateways that any home accepts, installed or not."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "usergrowth.toml").write_text('pigeon_loft = "/roof"\n')
    with pytest.raises(UserError, match="line 1: unknown setting 'pigeon_loft'"):
        load_settings(home)
    install(PIGEON, "pigeon = MODULE:PigeonGateway")
    settings = load_settings(home, gateway="pigeon")
    assert make_gateway(settings).name == "pigeon"
    with pytest.raises(UserError, match=r"'pigeon' is not known; known are: file, smtp, webhook"):
        make_gateway(settings.model_copy(update={"email_gateway": "pigeon"}), "email")


@pytest.mark.parametrize(
    ("change", "entry_points", "sentence"),
    [
        (
            ("", ""),
            "pigeon = MODULE:NoGateway",
            "'pigeon', registered as carrier_0:NoGateway, cannot be loaded",
        ),
        (("", ""), "pigeon = MODULE:PigeonSettings", "'pigeon' is no gateway class"),
        (
            ("", ""),
            "dove = MODULE:PigeonGateway",
            "'dove' is registered, but its class is .*pigeon",
        ),
        (("", ""), "kannel = MODULE:PigeonGateway", "by usergrowth-dagster and by carrier-0"),
        (
            ('name = "', 'channels = ("fax",)\n    name = "'),
            "pigeon = MODULE:PigeonGateway",
            "'fax'",
        ),
        (("pigeon_loft:", "churn_days:"), "pigeon = MODULE:PigeonGateway", "'churn_days' belongs"),
        (("pigeon_loft:", "smtp_host:"), "pigeon = MODULE:PigeonGateway", "gateway 'smtp' already"),
    ],
    ids=[
        "gone",
        "no class",
        "other name",
        "name taken",
        "channel",
        "setting",
        "setting of another",
    ],
)
def test_a_gateway_that_cannot_be_used_is_named(
    install: Install, change: tuple[str, str], entry_points: str, sentence: str
) -> None:
    """Guards against a traceback, and against a package that replaces a gateway of the product."""
    install(PIGEON.replace(*change, 1), entry_points)
    with pytest.raises(SetUpError, match=sentence) as caught:
        gateways()
        settings_class()
    assert caught.value.code == "plugin.unusable"


def test_entries_of_a_checkout(tmp_path: Path) -> None:
    """Guards against another project's file beside an installed package, and a stale checkout."""
    group, file = "usergrowth.gateways", tmp_path / "pyproject.toml"
    assert plugins.checkout_entries(tmp_path, group) is None
    for other in ("", "not TOML", '[project]\nname = "other"\n'):
        file.write_text(other)
        assert plugins.checkout_entries(tmp_path, group) is None
    file.write_text(
        f'[project]\nname = "usergrowth-dagster"\n[project.entry-points."{group}"]\na = "b:C"'
    )
    assert plugins.checkout_entries(tmp_path, group) == {"a": "b:C"}
    assert plugins.checkout_entries(tmp_path, "usergrowth.none") == {}
    root = Path(usergrowth_dagster.__file__).parents[1]
    assert set(plugins.checkout_entries(root, group) or gateways()) == set(gateways())


OWN_FILES = re.compile(
    # the gateways; the local Kannel to try sending with; the name of the dry run
    r"messaging/gateways/(\w+)\.py|(examples|cli)/kannel\w*\.py|settings/gateways\.py"
)
ORDINARY = {"file", "webhook"}
"""Names that are ordinary words too; they count where a module is about gateways."""
OPERATORS_WEBHOOK = "provenance.py"
"""Knows ``webhook`` as a part of the setting ``failure_webhook``."""


def names_of_gateways(source: str, names: Iterable[str]) -> list[str]:
    """The texts and attributes of a module that name a gateway, without docstrings."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    providers = "|".join(name for name in names if name not in ORDINARY)
    words = set(names) if "gateway" in source else set(names) - ORDINARY
    compound = re.compile(rf"({providers})_\w+|(.*[/.])?({providers})([/.].*)?")
    declared = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and compound.fullmatch(node.attr):
            declared.append(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = node.value in words or compound.fullmatch(node.value)
            if named and id(node) not in prose:
                declared.append(node.value)
    return sorted(declared)


def test_no_other_module_names_a_gateway() -> None:
    """Guards against one more place to edit for each gateway."""
    root = Path(usergrowth_dagster.__file__).parent
    named = {}
    for path in sorted(root.rglob("*.py")):
        module = path.relative_to(root).as_posix()
        match = OWN_FILES.fullmatch(module)
        if match and (match[1] is None or match[1].split("_")[0] in gateways()):
            continue
        literals = names_of_gateways(path.read_text("utf-8"), gateways())
        if path.name == OPERATORS_WEBHOOK:
            literals = [word for word in literals if word != "webhook"]
        if literals:
            named[module] = literals
    assert named == {}


def test_the_count_of_names_sees_them() -> None:
    """Guards against a count that finds nothing."""
    source = '"""twilio"""\nif name == "twilio":\n    url = f"{root}/kannel/mo"\n    settings.smtp_host\n'
    assert names_of_gateways(source, gateways()) == ["/kannel/mo", "smtp_host", "twilio"]
