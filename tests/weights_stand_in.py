"""A stand-in for the hub on the loopback interface: lists repositories, serves ranges of files, injects faults."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories by name, their files by name, and the faults to inject."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    corrupt: set[str] = field(default_factory=set)  # files that are served with one bit flipped
    stall: set[str] = field(default_factory=set)  # files of which half is served, and then nothing
    ranges: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Hub:
        self._server = Server(self)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


class Server(ThreadingHTTPServer):
    """A server that knows its hub."""

    daemon_threads = True

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), Answerer)
        self.hub = hub


class Answerer(BaseHTTPRequestHandler):
    """Answers one request as the hub would."""

    server: Server

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[0] == "api":
            return self.listing("/".join(parts[2:4]))
        return self.file("/".join(parts[:2]), "/".join(parts[4:]), body=body)

    def refuse(self, status: int, code: str) -> None:
        text = json.dumps({"error": f"no, {self.headers.get('Authorization', '')}"}).encode()
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", text.decode())
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def refused(self, name: str) -> bool:
        if name in self.hub.gated:
            self.refuse(403, "GatedRepo")
        elif name not in self.hub.repositories:
            self.refuse(404, "RepoNotFound")
        else:
            return False
        return True

    def listing(self, name: str) -> None:
        if self.refused(name):
            return
        text = json.dumps(
            {"id": name, "sha": COMMIT, "siblings": [entry(*file) for file in self.hub.repositories[name].items()]}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def file(self, name: str, path: str, *, body: bool) -> None:
        if self.refused(name):
            return
        data = self.hub.repositories[name][path]
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header(
            "ETag", f'"{hashlib.sha256(data).hexdigest()}"' if path.endswith(".safetensors") else f'"{git_sha1(data)}"'
        )
        self.send_header("Content-Length", str(len(data) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if not body:
            return
        self.hub.ranges.append(f"{path} {first}")
        self.hub.served.append(path)
        if path in self.hub.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if path in self.hub.stall:
            self.wfile.write(data[first : len(data) // 2])
            self.wfile.flush()
            self.hub.released.wait(30)
            return
        self.wfile.write(data[first:])

    def log_message(self, *words: object) -> None:
        pass


def entry(name: str, data: bytes) -> dict[str, object]:
    found: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
    if name.endswith(".safetensors"):
        found["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return found


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
