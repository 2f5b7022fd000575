"""A Hugging Face Hub on loopback: enough of it for `huggingface_hub` and diffusers to push, pin and pull models.

    with HubServer() as hub:
        api = HfApi(endpoint=hub.url, token=hub.token)

Files whose name ends in one of the suffixes `lfs` travel by the large-file protocol (batch, PUT, verify), all others
inside the commit. The default is none: a client that has `hf_xet` sends large files to a service that this server
lacks, so a test that passes `lfs` needs HF_HUB_DISABLE_XET=1, as `environment` sets it.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from helpers.hub_api import Hub, HubError, Reply, Request


@dataclass(frozen=True)
class Issue:
    """What befalls a request whose path contains `fragment`: an error status, or a body cut after `keep` bytes."""

    fragment: str
    status: int | None = None
    keep: int | None = None

    def befalls(self, request: Request) -> bool:
        return self.fragment in request.path and (self.keep is None or request.method == "GET")


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # a snapshot download opens many connections at once; beyond the queue each waits a second


class HubServer(Hub):
    """The Hub, listening on 127.0.0.1 inside its `with` block.

    `requests` logs the (method, path) of every request; tests may read and change `repositories`.
    """

    def __init__(self, lfs: tuple[str, ...] = ()) -> None:
        super().__init__(lfs)
        self.requests: list[tuple[str, str]] = []
        self._issues: list[Issue] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environment(self, home: Path) -> dict[str, str]:
        """The variables of a new process that shall see this Hub, signed in and online, with its caches in `home`."""
        foreign = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_")
        return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_MODULES_CACHE": str(home / "modules"),
            "HF_TOKEN": self.token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def fail_next(self, path_fragment: str, status: int) -> None:
        """Answer the next request whose path contains `path_fragment` with `status`, once."""
        self._issues.append(Issue(path_fragment, status=status))

    def cut_next(self, path_fragment: str, keep: int) -> None:
        """Break the connection after the first `keep` bytes of the next matching download, once."""
        self._issues.append(Issue(path_fragment, keep=keep))

    def receive(self, request: Request) -> tuple[Reply, int | None]:
        """The reply, and how many bytes of its body to send (None: all). One request at a time changes the Hub."""
        with self._lock:
            self.requests.append((request.method, request.path))
            issue = next((issue for issue in self._issues if issue.befalls(request)), Issue(""))
            self._issues = [other for other in self._issues if other is not issue]
            if issue.status:
                return HubError(issue.status, "injected issue").reply, None
            return self.answer(request), issue.keep


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.0 on purpose: no connection outlives its request, so a Hub that was stopped is really gone."""

    def __init__(self, hub: HubServer, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def serve(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, url.path, parse_qs(url.query), self.headers, body)
        reply, keep = self.hub.receive(request)
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[:keep])

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve  # noqa: N815

    def log_message(self, *arguments: Any) -> None:
        """Silence: `hub.requests` is the log."""
