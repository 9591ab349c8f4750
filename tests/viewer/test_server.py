"""The page over HTTP: what is shown, to whom, and that nothing else is."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from linfusion_cli.errors import BusyError, UsageError
from linfusion_cli.viewer import server as server_module
from linfusion_cli.viewer.content import Content, Shown
from linfusion_cli.viewer.server import ViewServer


@contextmanager
def serving(content: Content) -> Iterator[ViewServer]:
    with ViewServer(content) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server: ViewServer, path: str, *, method: str = "GET", host: str = "") -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_address[1]}")
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


@pytest.fixture
def served(tmp_path: Path, photo: Any) -> Iterator[ViewServer]:
    Image.fromarray(photo).save(tmp_path / "x.png")
    (tmp_path / "secret.txt").write_text("secret")
    shown = Shown(image=tmp_path / "x.png", record=lambda: {"record": {"prompt": "</script><b>"}, "command": "x"})
    content = Content(shown, tmp_path / "cache")
    thread = content.open()
    assert thread is not None
    thread.join()
    with serving(content) as server:
        yield server


def test_the_page_and_its_files_are_served(served: ViewServer) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/index.html", "text/html"),
        ("/viewer.js", "text/javascript"),
        ("/viewer.css", "text/css"),
        ("/openseadragon.min.js", "text/javascript"),
        ("/data.js", "text/javascript"),
        ("/overview.jpg?rows=3", "image/jpeg"),
        ("/tiles/10/1_0.jpg", "image/jpeg"),
    ):
        status, data, headers = ask(served, path)
        assert (status, headers["Content-Type"].split(";")[0]) == (200, kind)
        assert len(data) == int(headers["Content-Length"]) > 0
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'self'" in headers["Content-Security-Policy"]
    status, data, headers = ask(served, "/viewer.js", method="HEAD")
    assert (status, data) == (200, b"")
    assert int(headers["Content-Length"]) > 1000


def test_the_state_says_what_the_page_needs_and_no_text_leaves_its_script(served: ViewServer) -> None:
    status, data, _ = ask(served, "/status.json")
    state = json.loads(data)
    assert (status, state["name"], state["error"]) == (200, "x.png", "")
    assert state["image"] == {
        "width": 517,
        "height": 203,
        "ready": True,
        "rows": 203,
        "tile": 254,
        "overlap": 1,
        "ending": "jpg",
        "levels": 11,
        "note": "",
    }
    assert state["record"]["record"]["prompt"] == "</script><b>"
    assert b"</script>" not in ask(served, "/data.js")[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/tiles/../../secret.txt",
        "/tiles/10/../../../secret.txt",
        "/tiles/10/0_0.txt",
        "/tiles/99/0_0.jpg",
        "/tiles/10/0_0.png",
        "/stages/0.jpg",
        "/memory.svg",
        "/preview.jpg",
        "/static/viewer.js",
        "//etc/passwd",
        "/x.png",
        "/viewer.js/",
        "http://[bad/",
    ],
)
def test_no_path_leads_elsewhere(served: ViewServer, path: str) -> None:
    status, data, _ = ask(served, path)
    assert status == 404
    assert b"secret" not in data


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "localhost.evil:80"])
def test_a_page_of_another_name_gets_nothing(served: ViewServer, host: str) -> None:
    assert ask(served, "/", host=host)[0] == 403
    port = served.server_address[1]
    assert ask(served, "/", host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent(served: ViewServer, method: str) -> None:
    assert ask(served, "/", method=method)[0] == 501


def test_it_listens_on_loopback_alone(served: ViewServer) -> None:
    assert served.socket.getsockname()[0] == "127.0.0.1"
    assert served.url == f"http://127.0.0.1:{served.server_address[1]}/"


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BusyError, match=f"^port {port}: another program uses it. Leave it out"):
            ViewServer(Content(Shown(image=tmp_path / "x.png"), tmp_path), port)


def test_a_port_that_may_not_be_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*given: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(server_module.ThreadingHTTPServer, "__init__", forbidden)
    with pytest.raises(UsageError, match=r"^port 1: can't be used \(Permission denied\)\. Nearest: 8080"):
        ViewServer(Content(Shown(image=tmp_path / "x.png"), tmp_path), 1)


def test_an_image_that_is_not_there_yet_is_waited_for(tmp_path: Path, photo: Any) -> None:
    preview = tmp_path / "now.jpg"
    content = Content(Shown(image=tmp_path / "x.png", preview=preview), tmp_path / "cache")
    with serving(content) as server:
        state = json.loads(ask(server, "/status.json")[1])
        assert (state["image"], state["preview"], ask(server, "/preview.jpg")[0]) == (None, 0, 404)
        preview.write_bytes(b"a jpeg")
        before = json.loads(ask(server, "/status.json")[1])["preview"]
        assert ask(server, f"/preview.jpg?at={before}")[1] == b"a jpeg"
        os.utime(preview, (1, 1))
        assert json.loads(ask(server, "/status.json")[1])["preview"] == 1000
        Image.fromarray(photo).save(tmp_path / "x.png")
        assert json.loads(ask(server, "/status.json")[1])["image"]["width"] == 517


def test_a_broken_image_that_comes_is_an_error_on_the_page(tmp_path: Path) -> None:
    content = Content(Shown(image=tmp_path / "x.png", preview=tmp_path / "now.jpg"), tmp_path / "cache")
    (tmp_path / "x.png").write_text("no image")
    assert "x.png is a text" in content.state()["error"]
