"""The page in a real browser, without a network."""

import html
import re
from pathlib import Path

import pytest
from report_effects import BASIS, works
from support.browser import SCHEMES, Browser, browser, console

from usergrowth_dagster.effects.report.page import render_page
from usergrowth_dagster.effects.report.words import count

__all__ = ["browser"]

pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_page(works(), BASIS), encoding="utf-8")
    return path


def test_page_renders_alone(browser: Browser, page: Path) -> None:
    """The page lacks a number, logs an error, or loads something from outside."""
    done = browser.run(page, "--dump-dom")
    effect = works()
    shown = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", done.stdout)))
    assert effect.sentence in shown
    for rows in [*effect.funnel.steps.values(), *(loss.rows for loss in effect.funnel.losses)]:
        assert count(rows) in shown, rows
    assert not console(done)
    assert not browser.of_pages()


def test_the_proxy_and_the_console_can_tell(browser: Browser, tmp_path: Path) -> None:
    """The test before passes because nothing is ever seen."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<img src='http://pictures.invalid/x.png'><script>console.error('broken')</script>"
    )
    done = browser.run(bad, "--dump-dom")
    assert any("broken" in line for line in console(done))
    assert any(b"pictures.invalid" in line for line in browser.of_pages())
    browser.asked.clear()


@pytest.mark.parametrize(
    ("flag", "paper"), [(SCHEMES["light"], (255, 255, 255)), (SCHEMES["dark"], (22, 25, 29))]
)
def test_screenshot_is_not_blank(
    browser: Browser, page: Path, tmp_path: Path, flag: str, paper: tuple[int, int, int]
) -> None:
    """White text on white: the page is right in one color scheme only."""
    from PIL import Image

    target = tmp_path / "page.png"
    browser.run(page, flag, "--window-size=1200,2400", f"--screenshot={target}")
    image = Image.open(target).convert("RGB")
    assert image.getpixel((5, 5)) == paper
    colors = image.resize((300, 600)).getcolors(1 << 24)
    assert colors is not None and len(colors) > 200
    different = sum(n for n, color in colors if color != paper)
    assert different > 0.03 * 300 * 600


def test_fits_a_phone(browser: Browser, page: Path, tmp_path: Path) -> None:
    """At 400 px a table pushes the whole page sideways, so that the sentence is cut off."""
    inside = html.escape(page.read_text(encoding="utf-8"), quote=True)
    frame = tmp_path / "phone.html"
    frame.write_text(
        f'<iframe id="p" style="width:400px;height:900px;border:0" srcdoc="{inside}"></iframe>'
        "<script>onload = () => { const e = document.getElementById('p').contentDocument"
        ".documentElement; document.body.dataset.wide = e.scrollWidth + '/' + e.clientWidth; }"
        "</script>",
        encoding="utf-8",
    )
    done = browser.run(frame, "--dump-dom")
    assert 'data-wide="400/400"' in done.stdout, re.findall(r"data-wide[^>]*", done.stdout)
