"""The web server: who may talk to it, what it shows of run folders, and nothing else."""

import json
import os
import socket
import subprocess
import sys
import tarfile
import threading

import pytest
import uvicorn
from kit.web import OWN, fabricate, served

from jaxseg.errors import UserError
from jaxseg.web import guard, jobs, places, runs, site


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    fabricate(folder / "runs" / "a")
    fabricate(folder / "runs" / "sweep" / "member_00", (0.1, 0.3), seed=4)
    fabricate(folder / "elsewhere")
    (folder / "runs" / "link").symlink_to(folder / "elsewhere")
    (folder / "secret.txt").write_text("secret")
    (folder / "runs" / "a" / "pictures" / "out.png").symlink_to(folder / "secret.txt")
    with served(folder) as parts:
        yield parts


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 200),
        ("GET", {"host": "localhost:8000"}, 200),
        ("GET", {"host": "evil.example"}, 400),
        ("GET", {"host": "127.0.0.1.evil.example:8000"}, 400),
        ("GET", {"origin": "http://evil.example"}, 403),
        ("POST", {"x-jaxseg": "1", "origin": "http://evil.example"}, 403),
        ("POST", {"x-jaxseg": "1", "origin": "null"}, 403),
        ("POST", {"x-jaxseg": "1", "origin": "http://127.0.0.1:9999"}, 403),  # another server here
        ("POST", {"origin": "http://127.0.0.1:8000"}, 403),  # a form of any page could send it
        ("POST", OWN, 400),  # passes, and lacks a name
        ("POST", {"x-jaxseg": "1"}, 400),  # a script
    ],
)
def test_who_may_talk_to_the_server(server, method, headers, status):
    answer = server[0].request(method, "/api/runs", headers=headers)
    assert answer.status_code == status
    assert ("error" in answer.json()) == (status != 200)


def test_every_answer_confines_the_page(server):
    for path in ("/", "/api/runs", "/api/nothing", "/static/app.js"):
        headers = server[0].get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe-inline" not in policy
        assert headers["x-frame-options"] == "DENY" and headers["x-content-type-options"]
    report = server[0].get("/api/runs/a/files/report.html").headers["content-security-policy"]
    assert "sandbox" in report and "script-src" not in report


def test_beyond_this_machine_a_token_is_needed(tmp_path):
    with served(tmp_path, guard.Allowed((), "secret")) as (client, _, _):
        assert client.get("/api/runs").status_code == 401
        assert client.get("/api/runs?token=wrong").status_code == 401
        bearer = {"authorization": "Bearer secret"}
        assert client.get("/api/runs", headers=bearer).status_code == 200
        welcome = client.get("/?a=1&token=secret", follow_redirects=False)
        assert welcome.status_code == 303 and welcome.headers["location"] == "/?a=1"
        cookie = welcome.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie
        assert client.get("/api/runs").status_code == 200  # the client keeps the cookie


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs/../secret.txt",
        "/api/runs/%2e%2e/elsewhere",
        "/api/runs/a%2f..%2f..%2felsewhere",
        "/api/runs/link",
        "/api/runs/.web",
        "/api/runs/a/files/..%2f..%2f..%2fsecret.txt",
        "/api/runs/a/files/pictures/..%2f..%2f..%2f..%2fsecret.png",
        "/api/runs/a/files/pictures/out.png",
        "/api/runs/a/files/checkpoints/00000010/weights",
        "/api/runs/a/files/%00",
        "/static/..%2fsite.py",
        "/api/runs/sweep",
        "/api/runs/a/archive?step=11",
    ],
)
def test_nothing_outside_of_the_folders_is_served(server, path):
    answer = server[0].get(path)
    assert answer.status_code in (400, 404), answer.text
    assert "secret" not in answer.text.replace("secret.txt", "").replace("secret.png", "")


def test_a_body_is_counted_as_it_comes(server):
    """Without a Content-Length, and past the limit of a form (1 MB)."""
    parts = (b" " * 2**16 for _ in range(40))
    answer = server[0].post("/api/runs", content=parts, headers=OWN)
    assert answer.status_code == 413
    assert server[0].post("/api/runs", content=b"[1]", headers=OWN).status_code == 400


def _asked(port, head, body=b""):
    """The first line and the end of an answer, of a client that sends all before it reads."""
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(head.replace("\n", "\r\n").encode() + body)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    return answer.partition(b"\r\n")[0].decode(), answer.rpartition(b"\r\n")[2].decode()


def test_a_long_body_is_refused_in_words(tmp_path, monkeypatch):
    """Over a socket: the answer must arrive although the body is not wanted. 16 MB are more than
    fit between client and server."""
    monkeypatch.setattr("jaxseg.web.pages_try.UPLOAD", 1 << 20)
    monkeypatch.setattr(guard, "DISCARDED_SECONDS", 5.0)
    where, size = places.Places(tmp_path / "runs", tmp_path), 16 << 20
    app = site.make_app(where, jobs.Queue(where.own / "jobs"), guard.Allowed())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        head = f"POST /api/predict?run=a HTTP/1.1\nHost: 127.0.0.1:{port}\nConnection: close\n"
        own = f"{head}X-Jaxseg: 1\n"
        try:
            told = f"{own}Content-Length: {size}\n\n", bytes(size)
            ended = bytes(size) + b"\r\n0\r\n\r\n"
            untold = f"{own}Transfer-Encoding: chunked\n\n{size:x}\n", ended
            asks_first = (f"{own}Content-Length: {size}\nExpect: 100-continue\n\n",)
            for given in (told, untold, asks_first):
                status, said = _asked(port, *given)
                assert status.startswith("HTTP/1.1 413") and said == '{"error":"larger than 1 MB"}'
            status, said = _asked(port, f"{head}Content-Length: {size}\n\n", bytes(size))
            assert status.startswith("HTTP/1.1 403") and "X-Jaxseg" in said
        finally:
            server.should_exit = True
            thread.join(10)


def test_the_list_of_runs(server):
    found = server[0].get("/api/runs?sort=-best").json()
    assert found["total"] == 2  # neither the link nor the server's own folder
    first, second = found["runs"]
    assert (first["name"], second["name"]) == ("a", "sweep/member_00")
    assert (first["miou"], first["best"], first["best_step"], first["step"]) == (0.4, 0.5, 10, 20)
    assert first["data"] == "streets (rendered) → camvid" and first["seed"] == 3
    assert first["finished"] and not second["finished"]
    names = [r["name"] for r in server[0].get("/api/runs?q=member advent").json()["runs"]]
    assert names == ["sweep/member_00"]
    assert server[0].get("/api/runs?limit=1&offset=1&sort=name").json()["runs"][0]["seed"] == 4


def test_a_run_is_read_again_only_when_it_has_changed(tmp_path, monkeypatch):
    folder, read = fabricate(tmp_path / "a"), []
    summarise = runs._summarise
    monkeypatch.setattr(runs, "_summarise", lambda *args: read.append(1) or summarise(*args))
    for _ in range(3):
        assert runs.listed(tmp_path)[0]["miou"] == 0.4
    assert len(read) == 1
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"kind": "eval", "step": 30, "miou": 0.7}\n{"kind": "eval", "step": 40, "mi')
    assert runs.listed(tmp_path)[0]["miou"] == 0.7 and len(read) == 2  # the torn line waits


def test_the_log_is_read_on_from_where_it_was(tmp_path):
    folder = fabricate(tmp_path / "a")
    first = runs.lines(folder)
    assert [line["step"] for line in first["lines"]] == [0, 0, 10, 10, 20, 20]
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 21}\n{"kind": "tr')
    second = runs.lines(folder, first["at"])
    assert [line["step"] for line in second["lines"]] == [21] and not second["reset"]
    kept = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)[:2]
    (folder / "new").write_text("".join(kept))  # as a run that resumes does
    os.replace(folder / "new", folder / "metrics.jsonl")
    third = runs.lines(folder, second["at"])
    assert third["reset"] and len(third["lines"]) == 2
    assert runs.lines(tmp_path, "rubbish")["lines"] == []


def test_facts_and_comparison_of_runs(server):
    facts = server[0].get("/api/runs/a").json()
    assert facts["checkpoints"] == [10] and facts["job_state"] is None
    assert facts["pictures"]["files"] == {
        "": ["0_image.jpg", "out.png"],
        "10": ["0_prediction.png"],
    }
    assert server[0].get("/api/runs/a/files/pictures/0_image.jpg").status_code == 200
    both = server[0].get("/api/compare?run=a&run=sweep/member_00").json()["runs"]
    assert both[1]["curves"]["miou"] == [[0, 0.1], [10, 0.3]]


def test_of_a_long_log_every_nth_training_line_is_sent(server, tmp_path):
    folder = fabricate(tmp_path / "a")
    logged = [f'{{"kind": "train", "step": {s}}}\n' for s in range(21, 121)]
    logged.insert(50, '{"kind": "eval", "step": 70, "miou": 0.5}\n')
    with open(folder / "metrics.jsonl", "a") as file:
        file.writelines(logged)
    every, some = (runs.lines(folder, most=m)["lines"] for m in (0, 30))
    kinds = [[line for line in found if line["kind"] == "eval"] for found in (every, some)]
    assert kinds[0] == kinds[1] and len(kinds[0]) == 4
    steps = [line["step"] for line in some if line["kind"] == "train"]
    trained = [line["step"] for line in every if line["kind"] == "train"]
    assert steps == [*trained[::4], 120] and len(trained) == 103
    few = server[0].get("/api/runs/a/metrics?most=1").json()["lines"]
    assert [line["step"] for line in few if line["kind"] == "train"] == [0, 20]


def test_only_methods_with_a_warm_up_show_its_end(tmp_path):
    folder = fabricate(tmp_path / "a")
    assert runs.summary(folder, "a")["warmup"] == 10
    folder = fabricate(tmp_path / "b")
    (folder / "method.json").write_text('{"warms_up": false}')
    assert runs.summary(folder, "b")["warmup"] == 0


def test_a_network_is_taken_away_as_a_run_folder(server, tmp_path):
    (tmp_path / "a.tar").write_bytes(server[0].get("/api/runs/a/archive?step=last").content)
    with tarfile.open(tmp_path / "a.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    assert (tmp_path / "a/checkpoints/00000010/weights").read_bytes() == b"\1\2"
    assert json.loads((tmp_path / "a/config.json").read_text())["seed"] == 3
    assert json.loads((tmp_path / "a/classes.json").read_text())["classes"] == ["a"]


def test_the_server_imports_nothing_heavy():
    code = (
        "import sys, jaxseg.web.site; heavy = ('jax', 'numpy', 'tensorflow_datasets', "
        "'tensorboardX'); print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_pages_ask_nothing_of_other_addresses():
    from jaxseg.web.site import STATIC

    for path in [*STATIC.glob("*.*"), *STATIC.glob("pages/*")]:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "innerHTML" not in text, path
        assert not any(f'"{scheme}' in text.replace('"https://", ""', "") for scheme in ["https:/"])
        assert len(text.splitlines()) <= 300, path


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "-x", "ü", "x" * 101])
def test_names_that_are_no_folder(name):
    with pytest.raises(UserError, match="no name"):
        places.new_name(name)
