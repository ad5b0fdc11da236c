"""`submit` through the job server of a real head."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from algoprogress.pipeline import jobs, provenance
from algoprogress.pipeline.executors import ClusterLost
from algoprogress.results import Store

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("store", ["results/data", "./runs"])
def test_a_store_beside_the_command_is_refused(store):
    with pytest.raises(ValueError, match="the job runs elsewhere: give a URL"):
        jobs.submit_job("http://127.0.0.1:1", "smoke", store)


@pytest.mark.parametrize("store", [(), ("--store", "runs")], ids=["default", "relative"])
def test_the_command_refuses_a_store_beside_it(cli, monkeypatch, store):
    monkeypatch.delenv("ALGOPROGRESS_STORE", raising=False)
    code, _, err = cli("submit", "smoke", "--address", "http://127.0.0.1:1", *store)
    assert code == 2
    assert "the job runs elsewhere: give a URL" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--address", "http://127.0.0.1:1", "--executor", "process"), "--executor process is for this machine"),
        (("--address", "http://127.0.0.1:1", "--json"), "status --json"),
        (("--detach",), "give --address http"),
    ],
)
def test_options_that_a_job_does_not_have_are_refused(cli, tmp_path, words, said):
    code, _, err = cli("submit", "smoke", "--store", tmp_path, *words)
    assert code == 2
    assert said in err


def test_a_text_of_this_machine_is_not_asked_of_another(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("words", encoding="utf-8")
    code, _, err = cli(
        "submit", "smoke", "--address", "http://127.0.0.1:1", "--store", tmp_path, "--corpus", "mine.txt"
    )
    assert code == 2
    assert "--corpus mine.txt is a file of this machine" in err


def refused(address: str, store: Path) -> float:
    """Seconds until a submit to what is no job server is refused, without those in which Python starts."""
    code = (
        "import sys, time; from algoprogress.pipeline import jobs; begun = time.monotonic()\n"
        "try: jobs.submit_job(sys.argv[1], 'smoke', sys.argv[2])\n"
        "except ValueError as error: print(time.monotonic() - begun, error)"
    )
    words = [sys.executable, "-c", code, address, str(store)]
    took, _, said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.partition(" ")
    assert said.startswith(f"no Ray job server answers at {address}: is the tunnel open")
    return float(took)


def test_a_dead_address_is_refused_at_once(tmp_path):
    assert refused("http://127.0.0.1:1", tmp_path) < 10


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def outside(*words: object) -> tuple[int, str]:
    """A command in a process of its own: Ray reads the token once per process, and later tests have another."""
    command = [sys.executable, "-m", "algoprogress.pipeline.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stderr


def test_a_server_that_accepts_and_stays_silent_is_refused_within_ten_seconds(silent, tmp_path):
    assert refused(silent, tmp_path) < 10


def serve(answer: Callable[[BaseHTTPRequestHandler], None]) -> tuple[HTTPServer, str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        do_POST = do_GET

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


def send_json(request: BaseHTTPRequestHandler, facts: object) -> None:
    body = json.dumps(facts).encode()
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


VERSION = {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": "s"}


@pytest.mark.parametrize("says", ["closes", "something else", "other JSON"])
def test_what_is_no_job_server_or_a_tunnel_without_an_end_is_refused_by_a_sentence(says, tmp_path):
    def answer(request):
        if says == "closes":  # as an open tunnel does, whose other end is not there
            request.connection.shutdown(socket.SHUT_RDWR)
        elif says == "other JSON":
            send_json(request, {"hello": "world"})
        else:
            request.send_error(502)

    server, address = serve(answer)
    code, err = outside("submit", "smoke", "--address", address, "--store", tmp_path)
    server.shutdown()
    assert code == 2
    assert f"no Ray job server answers at {address}: is the tunnel open" in err


def test_a_tunnel_that_breaks_after_the_first_answer_ends_in_a_sentence(tmp_path):
    def answer(request):
        if request.path == "/api/version":
            send_json(request, VERSION)
        else:
            request.connection.shutdown(socket.SHUT_RDWR)

    server, address = serve(answer)
    code, err = outside("submit", "smoke", "--address", address, "--store", tmp_path)
    server.shutdown()
    assert code == 1
    assert "has stopped answering" in err
    assert "the same command follows the job" in err


@pytest.mark.parametrize("failures", [jobs.TRIES - 1, jobs.TRIES])
def test_a_job_is_followed_over_a_tunnel_that_breaks_for_a_moment_and_left_to_itself_after_that(failures, monkeypatch):
    monkeypatch.setattr(jobs, "AGAIN_SECONDS", 0.0)

    class Ended:
        def is_terminal(self):
            return True

    class Broken:
        left = failures

        def get_job_status(self, job_id):
            self.left -= 1
            if self.left >= 0:
                raise ConnectionError("reset by peer")
            return Ended()  # Ray's own is not imported here: it reads the mode of authentication once per process

        def get_job_logs(self, job_id):
            return f"trained\n{jobs.EXIT_CODE}0\n"

    said: list[str] = []
    if failures < jobs.TRIES:
        assert jobs._follow(Broken(), "job-1", said.append) == 0
        assert said == ["trained"]
    else:
        with pytest.raises(ClusterLost, match="job-1 goes on without us; open the tunnel again, and the same command"):
            jobs._follow(Broken(), "job-1", said.append)


def test_only_a_web_address_is_a_job_server():
    assert jobs.is_job_address("http://127.0.0.1:8265")
    assert not jobs.is_job_address("10.0.0.1:6379")
    assert not jobs.is_job_address("auto")


def test_the_state_of_the_code_that_asked_is_recorded_on_the_head(monkeypatch):
    monkeypatch.setenv("ALGOPROGRESS_GIT_SHA", "abc")
    monkeypatch.delenv("ALGOPROGRESS_GIT_DIRTY", raising=False)
    provenance.code.cache_clear()
    assert provenance.code() == {"git_sha": "abc", "git_dirty": None}
    provenance.code.cache_clear()


def test_another_version_on_the_head_is_refused(monkeypatch):
    monkeypatch.setenv("ALGOPROGRESS_VERSION", "9.9.9")
    with pytest.raises(ValueError, match=r"9\.9\.9 submitted this job, the cluster has .*install the same"):
        jobs.check_version()
    monkeypatch.setenv("ALGOPROGRESS_VERSION", provenance.package_version())
    monkeypatch.setenv("ALGOPROGRESS_SOURCE", "0" * 12)
    with pytest.raises(ValueError, match=f"source 000000000000.*not that of the cluster .source {provenance.source()}"):
        jobs.check_version()
    monkeypatch.setenv("ALGOPROGRESS_SOURCE", provenance.source())
    jobs.check_version()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def head(monkeypatch):
    """A head with its dashboard, as `ray start` makes it, on loopback and with a token of its own."""
    folder = tempfile.mkdtemp(prefix="apj-", dir="/tmp")
    token = secrets.token_hex(32)
    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_USAGE_STATS_ENABLED": "0"}
    for key, value in {**ours, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_TMPDIR": folder}.items():
        monkeypatch.setenv(key, value)
    binaries = Path(sys.executable).parent
    port, dashboard = free_port(), free_port()
    words = [binaries / "ray", "start", "--head", f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=2",
             "--dashboard-host=127.0.0.1", f"--temp-dir={folder}", "--include-dashboard=true", "--block"]  # fmt: skip
    environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}"}
    with open(Path(folder) / "head.log", "w") as log:
        started = subprocess.Popen(list(map(str, words)), env=environment, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{dashboard}"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", dashboard), timeout=1).close()
            break
        except OSError:
            assert started.poll() is None, Path(folder, "head.log").read_text()
            time.sleep(0.5)
    yield address
    for process in [*psutil.Process(started.pid).children(recursive=True), psutil.Process(started.pid)]:
        process.kill()
    started.wait()
    for process in psutil.process_iter(["cmdline"]):  # Ray's agents rename themselves and may outlive their parent
        try:
            if any(folder in word for word in process.info["cmdline"] or []) or (
                "ray::" in " ".join(process.info["cmdline"] or [])
                and any(f.path.startswith(folder) for f in process.open_files())
            ):
                process.kill()
        except psutil.Error:
            continue
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_study_is_trained_by_a_job_and_asking_again_trains_nothing(head, tmp_path, tiny_study, text_file):
    study, store, said = text_file.with_name("tiny.yaml"), tmp_path / "runs", []
    wrong = secrets.token_hex(32)
    code = jobs.submit_job(head, str(study), str(store), say=said.append)
    assert code == 0, said
    runs = Store(str(store)).runs(status=None)
    assert len(runs) == 8
    assert set(runs["git_sha"].dropna()) <= {provenance.code()["git_sha"]}
    again: list[str] = []
    assert jobs.submit_job(head, str(study), str(store), say=again.append) == 0
    assert any("0 runs trained" in line for line in again)
    assert jobs.submit_job(head, "no_such_study", str(store), say=again.append) == 2
    code = (
        "import sys; from algoprogress.pipeline import jobs\n"
        "try: jobs.submit_job(sys.argv[1], 'smoke', sys.argv[2])\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, head, str(store)], capture_output=True, text=True,
                          env=os.environ | {"RAY_AUTH_TOKEN": wrong}, check=False)  # fmt: skip
    assert "refuses the token of this shell" in done.stdout, done.stderr


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "local"])
def test_a_store_with_a_key_in_its_url_is_refused_and_the_key_not_repeated(cli, address):
    store = "s3://ACCESSKEY1:very/secret@bucket/runs"
    code, out, err = cli("submit", "smoke", "--store", store, "--address", address)
    assert code == 2
    assert "give credentials by the environment" in err
    assert "secret" not in (out + err).replace("AWS_SECRET_ACCESS_KEY", "")
    assert "ACCESSKEY1" not in out + err
