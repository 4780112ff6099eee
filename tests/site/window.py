"""A window of Chromium or Chrome, and a server for it."""

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Page, Request, Response

DESK, PHONE = (1440, 900), (390, 844)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(
    site: Path, kind: type[http.server.SimpleHTTPRequestHandler]
) -> Iterator[str]:
    """The address of a server for the site, on this machine only."""
    handler = functools.partial(kind, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()


@dataclass
class Visit:
    """A page in a window of its own, and what the browser said of it."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        def answered(response: Response) -> None:
            if response.status >= 400:
                self.complaints.append(f"{response.status} {response.url}")

        def failed(request: Request) -> None:
            if request.failure != "net::ERR_ABORTED":  # the page was left meanwhile
                self.complaints.append(f"{request.failure}: {request.url}")

        page, say = self.page, self.complaints.append
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("response", answered)
        page.on("requestfailed", failed)
        page.on("pageerror", lambda error: say(str(error)))
        page.on(
            "console",
            lambda message: (
                say(f"{message.type}: {message.text}")
                if message.type in ("error", "warning", "assert")
                else None
            ),
        )

    def go(self, url: str) -> None:
        """Load a page, and wait until the network is quiet."""
        self.page.goto(url, wait_until="load")
        self.page.wait_for_load_state("networkidle")
