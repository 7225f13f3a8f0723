"""The app over HTTP, with one in place of a run that answers at once: what is let in, what is refused, who waits."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tiny import make_store, refused, trained

from common.console import InputError
from prediction.app.__main__ import build_parser, main
from prediction.app.answering import Answerer, Question

fastapi = pytest.importorskip("fastapi", reason="no FastAPI (requirements-app.txt)")
pytest.importorskip("python_multipart", reason="no python-multipart (requirements-app.txt)")
pytest.importorskip("uvicorn", reason="no uvicorn (requirements-app.txt)")
testing = pytest.importorskip("starlette.testclient", reason="no httpx2, which starlette tests with")
from prediction.app import serving  # noqa: E402

HERE = "http://127.0.0.1:7860"


@dataclass
class Stub:
    """Answers with what it was asked, once `go` is set; refuses what holds no "video", breaks at the title "bug"."""

    place: Path
    takes_videos: bool = True
    columns: dict = field(default_factory=lambda: {"creator": "creator", "tag <b>": "category"})
    name: str = "MMRA on <b>mine</b>"
    item_id: str = "1"
    asked: list = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)

    question, place_of_video = Answerer.question, Answerer.place_of_video

    def answer(self, question: Question) -> str:
        self.asked.append(question)
        assert self.go.wait(20)
        if question.title == "bug":
            raise ZeroDivisionError
        content = question.video and question.video.read_bytes()
        if content and b"video" not in content:
            raise InputError("Invalid data")
        return f"{question.title} {content} {question.video and question.video.relative_to(question.folder)}"


@pytest.fixture
def stub(tmp_path):
    made = Stub(tmp_path)
    made.go.set()
    return made


@pytest.fixture
def client(stub):
    with testing.TestClient(serving.make_app(serving.Turns(stub), 1000), base_url=HERE) as one:
        yield one
    assert not any(stub.place.iterdir())  # nothing of what was asked is kept


def last(response) -> dict:
    return json.loads(response.text.splitlines()[-1])


def ask(client, *, title="a title", file=("clip.mp4", b"a video"), **data) -> dict:
    files = {"video": file} if file else None
    return last(client.post("/predict", data={"title": title} | data, files=files))


def test_the_page_loads_nothing(client):
    response = client.get("/")
    html, policy = response.text, response.headers["content-security-policy"]
    assert "MMRA on &lt;b&gt;mine&lt;/b&gt;" in html and "tag &lt;b&gt;" in html and "<b>" not in html
    assert policy.startswith("default-src 'none'; img-src data:; connect-src 'self'; style-src 'sha256-")
    assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    script = html.split("<script>")[1].split("</script>")[0]
    for text in (script, *re.findall(r"<style>(.*?)</style>", html, re.DOTALL)):
        assert serving.policy_hash(text) in policy
    assert not re.search(r'(src|href)="(?!data:)', html) and "url(" not in html and "@import" not in html
    assert response.headers["x-content-type-options"] == "nosniff"
    for other in ("/docs", "/openapi.json", "/../app.js", "/app.js"):
        assert client.get(other).json() == {"error": "Not Found"}


def test_what_is_asked_reaches_the_run(client, stub):
    said = ask(client, title=" <b>天气\x00 ", known_0="anna", known_1=" ", known_7="x", file=("Ü.MP4", b"video"))
    assert said["report"] == "<b>天气\x00 b'video' video/1.mp4" and said["seconds"] >= 0
    assert stub.asked[0].known == {"creator": "anna"}


@pytest.mark.parametrize(
    "name",
    ["../../../etc/passwd.mp4", "/etc/x.mp4", "C:\\x.mp4", ".mp4.mp4", "a\nb.mp4", "x" * 1000 + ".mp4", "x.mp4/"],
)
def test_a_name_becomes_no_path(client, name):
    assert ask(client, file=(name, b"video"))["report"].endswith("video/1.mp4")


@pytest.mark.parametrize("name", ["x", "x.txt", "x.mp4\x00.sh", ".mp4", "x.mp4 "])
def test_other_suffixes_are_refused(client, name):
    assert ask(client, file=(name, b"video"))["error"].startswith("The file's name ends in none of .mp4, .m4v")


@pytest.mark.slow
def test_what_is_too_large_is_refused_while_it_is_read(client, stub):
    with_length = client.post("/predict", files={"video": ("a.mp4", b"video" * 2000)})
    assert with_length.status_code == 413 and "larger than 0.001 MB, which is the most" in with_length.json()["error"]
    large = client.post("/predict", files={"video": ("a.mp4", b"x" * (serving.BESIDE + 10_000))})
    assert large.status_code == 413

    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
        for _ in range(1000):
            yield b"0" * 100_000

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post("/predict", content=endless(), headers=kind).status_code == 413
    assert last(client.post("/predict", data={"title": "x" * 5001}, files={"video": ("a.mp4", b"video")})) == {
        "error": "title: 5001 characters, and 5000 is the most."
    }
    assert stub.asked == [] and ask(client)["report"]


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"--x", b"--x\r\n\r\n", b'--x\r\nContent-Disposition: form-data; name="title"\r\n\r\nx', b"\x00" * 99],
)
def test_broken_forms_are_refused(client, body):
    response = client.post("/predict", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert response.status_code in (400, 422) and response.json()["error"]


def test_many_files_and_many_fields_are_refused(client):
    files = [("video", ("a.mp4", b"video"))] * 2
    assert "Too many files" in client.post("/predict", files=files).json()["error"]
    assert "Too many fields" in client.post("/predict", data={f"f{i}": "x" for i in range(9)}, files=files[:1]).text


def test_what_the_run_needs_and_what_it_does_not_look_at(client, stub):
    assert ask(client, file=None) == {"error": "This run looks at frames: it needs a video, and not a title alone."}
    stub.takes_videos = False
    assert ask(client)["error"].startswith("This run looks at no frames")
    assert ask(client, title=" ", file=None) == {"error": "There is no title."}
    assert ask(client, file=None)["report"] == "a title None None"


def test_what_goes_wrong_is_said_and_the_next_is_answered(client, capfd):
    assert ask(client, file=("a.mp4", b"noise")) == {"error": "No prediction: Invalid data."}
    assert ask(client, title="bug")["error"].startswith("Something is wrong in the app itself")
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert ask(client)["report"]


def test_other_sites_are_refused(client, stub):
    for host in ("evil.example", "evil.example:7860", "127.0.0.1.evil.example", "", "[", "10.0.0.7:7860"):
        assert client.get("/", headers={"Host": host}).status_code == 403, host
    for host in ("localhost", "localhost:8000", "[::1]:7860", "127.0.0.1"):
        assert client.get("/", headers={"Host": host}).status_code == 200, host
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1234", "http://localhost:7860", "http://["):
        response = client.post("/predict", data={"title": "x"}, headers={"Origin": origin})
        assert response.status_code == 403 and response.json() == {"error": response.json()["error"]}, origin
    assert stub.asked == []
    assert last(client.post("/predict", files={"video": ("a.mp4", b"video")}, headers={"Origin": HERE}))["report"]
    everywhere = testing.TestClient(
        serving.make_app(serving.Turns(stub), 1000, local=False), base_url="http://box:7860"
    )
    assert everywhere.get("/").status_code == 200
    assert everywhere.get("/", headers={"Origin": "http://evil.example"}).status_code == 403


def test_who_comes_later_waits_and_is_told_so(client, stub, monkeypatch):
    monkeypatch.setattr(serving, "MOST_INSIDE", 3)
    stub.go.clear()
    said: dict[str, list[dict]] = {}

    def one(title: str) -> None:
        response = client.post("/predict", data={"title": title}, files={"video": ("a.mp4", b"video")})
        said[title] = [json.loads(line) for line in response.text.splitlines()]

    threads = [threading.Thread(target=one, args=(title,)) for title in ("first", "second", "third")]
    for number, thread in enumerate(threads, start=1):
        thread.start()
        wait_for(lambda number=number: len(list(stub.place.iterdir())) == number)
        time.sleep(0.1)
    fourth = client.post("/predict", data={"title": "x"}, files={"video": ("a.mp4", b"video")})
    assert fourth.status_code == 503 and fourth.json() == {"error": "3 others are before this one; try again later."}
    assert [question.title for question in stub.asked] == ["first"]
    stub.go.set()
    for thread in threads:
        thread.join(20)
    assert [question.title for question in stub.asked] == ["first", "second", "third"]
    assert [said[title][0] for title in ("first", "second", "third")] == [{"before": i} for i in range(3)]
    assert all("report" in lines[-1] for lines in said.values())
    assert ask(client)["report"]


def wait_for(true) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_port_in_use_and_a_host_that_is_none():
    with serving.bound("127.0.0.1", 0) as socket:
        socket.listen()
        port = socket.getsockname()[1]
        with refused(f"--port {port}: in use at 127.0.0.1; name another"):
            serving.bound("127.0.0.1", port)
    for host in ("no such host", "192.0.2.1", "x" * 300):
        with refused(f"--host {host}: no address of this machine"):
            serving.bound(host, 0)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    run = trained(make_store(tmp_path / "tiny"), tmp_path / "runs", "--model_id", "SVR")
    monkeypatch.delitem(sys.modules, "prediction.app.serving")
    monkeypatch.delattr("prediction.app.serving")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with refused("the app needs the package uvicorn, which is not installed; pip install -r requirements-app.txt"):
        main(build_parser().parse_args(["--model_path", str(run)]))
