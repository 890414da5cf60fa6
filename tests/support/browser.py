"""A headless browser without a network, for the tests of pages."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


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
