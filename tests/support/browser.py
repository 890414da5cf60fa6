"""A headless browser without a network, for the tests of pages."""

import html
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SCHEMES = {
    "dark": "--blink-settings=preferredColorScheme=0",
    "light": "--blink-settings=preferredColorScheme=1",
}
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
"""Forbids the pages every script, also that of the test."""

_RUN = """<script>
onload = async () => {
  const result = {};
  for (const frame of document.querySelectorAll('iframe')) {
    const inside = frame.contentDocument, script = inside.createElement('script');
    script.src = document.body.dataset.axe;
    await new Promise(done => { script.onload = done; inside.head.append(script); });
    const found = await frame.contentWindow.axe.run(inside, {iframes: false});
    result[frame.title] = {
      passed: found.passes.length,
      lines: found.violations.flatMap(rule => rule.nodes.map(node =>
        rule.id + ': ' + node.html.slice(0, 160) + ' ' + (node.any[0] || {message: ''}).message)),
    };
  }
  const shown = document.createElement('pre');
  shown.id = 'found';
  shown.textContent = JSON.stringify(result);
  document.body.replaceChildren(shown);
};
</script>"""


class Browser:
    """Headless Chromium, whose every request goes to a proxy that writes it down and refuses."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program, self.folder = program, folder
        self.asked: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._refuse, daemon=True).start()

    def _refuse(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                try:
                    self.asked.append(connection.recv(4096).split(b"\r\n")[0])
                    connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
                except OSError:
                    continue

    def run(self, page: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
        """Open a page; what it prints and logs."""
        profile = self.folder / "profile"
        done = subprocess.run(
            [
                *(self.program, "--headless", "--no-sandbox", "--disable-gpu"),
                *("--disable-background-networking", "--disable-component-update"),
                *("--disable-sync", "--no-first-run", "--disable-default-apps"),
                f"--proxy-server=127.0.0.1:{self.listener.getsockname()[1]}",
                "--proxy-bypass-list=<-loopback>",
                f"--user-data-dir={profile}",
                *("--enable-logging=stderr", "--hide-scrollbars", *flags, page.as_uri()),
            ],
            capture_output=True,
            text=True,
            timeout=90,
        )
        shutil.rmtree(profile, ignore_errors=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done

    def violations(self, pages: Mapping[str, str], scheme: str) -> list[str]:
        """What axe-core has against some pages in a color scheme, a line each.

        Every page is a frame of one document, so that the browser starts once.

        Args:
            pages: HTML by name.
            scheme: ``light`` or ``dark``.
        """
        import axe_core_python

        source = Path(axe_core_python.__file__).parent / "axe.min.js"
        frames = "".join(
            f'<iframe title="{name}" style="width:1100px;height:3000px;border:0" '
            f'srcdoc="{html.escape(_POLICY.sub("", text))}"></iframe>'
            for name, text in pages.items()
        )
        harness = self.folder / f"axe-{scheme}.html"
        harness.write_text(
            f'<!doctype html><body data-axe="{source.as_uri()}">{frames}{_RUN}',
            encoding="utf-8",
        )
        done = self.run(harness, SCHEMES[scheme], "--virtual-time-budget=60000", "--dump-dom")
        found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
        assert found is not None, f"axe-core did not end: {console(done)}"
        result = json.loads(html.unescape(found[1]))
        assert set(result) == set(pages) and all(one["passed"] for one in result.values())
        return [
            f"{name} ({scheme}): {line}" for name, one in result.items() for line in one["lines"]
        ]

    def of_pages(self) -> list[bytes]:
        """Requests that are not the browser's own."""
        return [line for line in self.asked if b"google" not in line]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("the browser Chromium is not installed")
    opened = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.listener.close()


def console(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """What the page said on the console."""
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]
