"""Drive a headless Chromium through its debugging pipe, with the standard library only.

Nothing but the browser has to be installed: no driver and no package. The pipe needs
POSIX; on Windows :func:`find` returns None and the tests that use it are skipped.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",  # containers run tests as root
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find() -> str | None:
    """The path of a browser, or None."""
    if os.name != "posix":
        return None
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def _high(descriptor: int) -> int:
    """A copy of a descriptor, out of the way of 0 to 4."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return copy


class Browser:
    """A browser with one page; ``events`` holds its reports since the last visit."""

    def __init__(self, executable: str, profile: Path, timeout: float = 60.0) -> None:
        self.timeout = timeout
        self.events: list[dict[str, Any]] = []
        self._buffer = b""
        self._count = 0
        to_read, self._write = map(_high, os.pipe())
        self._read, to_write = map(_high, os.pipe())
        null = os.open(os.devnull, os.O_RDWR)
        # The browser reads commands from its descriptor 3 and answers on 4.
        places = {0: null, 1: null, 2: null, 3: to_read, 4: to_write}
        self._process = os.posix_spawn(
            executable,
            [executable, *FLAGS, f"--user-data-dir={profile}"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, *pair[::-1]) for pair in places.items()
            ],
            setpgroup=0,
        )
        for descriptor in (null, to_read, to_write):
            os.close(descriptor)
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser and the processes that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(time.monotonic() + self.timeout)
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select(
                [self._read], [], [], deadline - time.monotonic()
            )
            chunk = os.read(self._read, 1 << 16) if ready else b""
            if not chunk:
                raise TimeoutError("the browser does not answer")
            self._buffer += chunk
        raw, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(raw)
        if "method" in message:
            self.events.append(message)
        return message

    def size(self, width: int, height: int) -> None:
        """Set the size of the window."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def visit(self, url: str) -> None:
        """Load a page and wait until it is loaded and its formulas are set."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + self.timeout
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self._next(deadline)
        self.run(
            "window.MathJax && MathJax.startup"
            " ? MathJax.startup.promise.then(() => 0) : 0"
        )
        self.run("new Promise(done => setTimeout(done, 200))")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are waited for."""
        result = self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def requests(self) -> list[str]:
        """The addresses that the page asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, failed requests, uncaught exceptions."""
        found = []
        for event in self.events:
            method, params = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled":
                if params["type"] in ("error", "warning", "assert"):
                    found.append(f"{params['type']}: {params['args']}")
            elif method == "Log.entryAdded":
                if params["entry"]["level"] in ("error", "warning"):
                    found.append(
                        f"{params['entry']['text']} {params['entry'].get('url')}"
                    )
            elif method == "Network.loadingFailed":
                found.append(f"request failed: {params['errorText']}")
            elif method == "Network.responseReceived":
                response = params["response"]
                if response["status"] >= 400:
                    found.append(f"{response['status']} {response['url']}")
        return found

    def screenshot(self) -> bytes:
        """The whole page as PNG (base64 text, as the browser sends it)."""
        box = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {
            "x": 0,
            "y": 0,
            "width": box["width"],
            "height": box["height"],
            "scale": 1,
        }
        shot = self.call(
            "Page.captureScreenshot",
            format="png",
            clip=clip,
            captureBeyondViewport=True,
        )
        return shot["data"].encode()
