"""`submit` through the job server of a real head."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from algoprogress.pipeline import jobs, provenance
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


def test_a_dead_address_is_refused_at_once(tmp_path):
    begun = time.monotonic()
    with pytest.raises(ValueError, match=r"no Ray job server answers at http://127\.0\.0\.1:1: is the tunnel open"):
        jobs.submit_job("http://127.0.0.1:1", "smoke", str(tmp_path))
    assert time.monotonic() - begun < 10


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
