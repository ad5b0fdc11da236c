"""A run is one process's at a time, and a run whose process has gone is somebody's again."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from algoprogress.results import Store, claims, submits
from algoprogress.results.claims import Watch, beating

RUN = "ab" * 10


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path) -> Store:
    return Store(tmp_path / "store" if request.param == "folder" else f"memory://claims/{tmp_path.name}")


def test_of_many_processes_one_claims_a_run(tmp_path):
    code = (
        "import sys\nfrom algoprogress.results import Store\n"
        "print(sum(Store(sys.argv[1]).claim(f'{i:020x}', {}) is not None for i in range(20)))\n"
        "sys.stdout.flush(); sys.stdin.read()"  # alive until all have tried
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    won = [int(process.stdout.readline()) for process in started]
    for process in started:
        process.communicate()
    assert sum(won) == 20


def test_a_claim_shows_who_has_the_run_and_how_far_it_is_until_it_is_released(store):
    claim = store.claim(RUN, {"study": "demo", "arm": "lstm", "attempt": 2})
    assert store.claim(RUN, {}) is None
    claim.say({"step": 2, "steps": 10, "loss": float("nan")})
    assert claim.beat()
    row = store.active().to_dict("records")[0]
    assert (row["run_id"], row["arm"], row["attempt"], row["step"], row["pid"]) == (RUN, "lstm", 2, 2, os.getpid())
    assert not row["stale"]
    claim.release()
    claim.release()
    assert store.active().empty
    assert store.claim(RUN, {})


def test_the_claim_of_a_dead_process_of_this_host_is_taken_over_at_once(tmp_path):
    store = Store(tmp_path)
    code = "import sys; from algoprogress.results import Store; Store(sys.argv[1]).claim('ab' * 10, {})"
    subprocess.run([sys.executable, "-c", code, store.url], check=True)
    assert store.active()["stale"].tolist() == [True]
    claim = store.claim(RUN, {})
    assert claim.generation == 2
    assert [path.name for path in Path(store.url, "active").iterdir()] == [f"{RUN}.2.json"]


def test_only_one_of_many_takes_a_silent_claim_over(store):
    late = store.claim(RUN, {})
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda _: store.claim(RUN, {}, over=1), range(16)))
    assert sum(claim is not None for claim in won) == 1
    assert not late.beat()
    assert late.lost
    late.release()  # of what it has no more
    assert store.claims()[RUN].generation == 2


def test_a_process_that_overslept_does_not_win_its_claim_back(store, make_run):
    record, curve = make_run()
    late = store.claim(record["run_id"], {})
    taker = store.claim(record["run_id"], {}, over=1)
    assert store.publish(record, curve)
    taker.release()
    assert not late.beat()
    assert store.claims() == {}


def test_a_claim_outlives_a_store_that_was_emptied(store):
    claim = store.claim(RUN, {})
    store.retire(RUN)
    assert claim.beat()
    assert RUN in store.claims()


def test_a_retired_claim_is_one_of_the_submit_that_is_named(store):
    store.claim(RUN, {"driver": "one"})
    store.retire(RUN, driver="another")
    assert RUN in store.claims()
    store.retire(RUN, driver="one")
    store.retire(RUN)
    assert store.claims() == {}


def test_heartbeats_go_on_during_a_long_step_and_end_with_the_block(store, monkeypatch):
    monkeypatch.setattr(store.folder, "beat_seconds", 0.02, raising=False)
    claim = store.claim(RUN, {})
    tags = set()
    with beating([claim]):
        deadline = time.monotonic() + 30
        while len(tags) < 5 and time.monotonic() < deadline:
            tags.add(claims.facts(store.folder, store.claims()[RUN])["beat"])
    assert len(tags) >= 5
    last = claims.facts(store.folder, store.claims()[RUN])["beat"]
    time.sleep(0.1)
    assert claims.facts(store.folder, store.claims()[RUN])["beat"] == last


def test_a_claim_is_silent_when_the_observers_own_clock_says_so():
    now = [100.0]
    watch = Watch(30.0, clock=lambda: now[0])
    first, beaten = claims.Held(RUN, 1, "a"), claims.Held(RUN, 1, "b")
    assert watch.silent([first]) == set()
    now[0] += 29
    assert watch.silent([beaten]) == set()  # a heartbeat arrived
    now[0] += 29
    assert watch.silent([beaten]) == set()
    now[0] += 2
    assert watch.silent([beaten]) == {RUN}
    assert watch.silent([claims.Held(RUN, 2, "b")]) == set()  # taken over: it begins anew


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_clock_that_jumps_makes_no_live_claim_silent_or_stale(tmp_path, monkeypatch, jump):
    store = Store(tmp_path)
    claim, watch = store.claim(RUN, {}), Watch(30.0)
    watch.silent(store.claims().values())
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    claim.beat()
    path = Path(store.url, claim.path)
    os.utime(path, (real() + jump, real() + jump))  # and so does the file server's
    assert watch.silent(store.claims().values()) == set()
    assert store.active()["stale"].tolist() == [False]
    assert store.clean() == []


def test_a_stopped_process_goes_silent_though_it_is_not_dead(tmp_path):
    store = Store(tmp_path)
    code = (
        "import sys, time\nfrom algoprogress.results import Store\nfrom algoprogress.results.claims import beating\n"
        "store = Store(sys.argv[1]); store.folder.beat_seconds = 0.05\n"
        "with beating([store.claim('ab' * 10, {})]): time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, store.url])
    try:
        deadline, watch = time.monotonic() + 120, Watch(2.0)
        while not store.claims():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        since = time.monotonic()
        while time.monotonic() - since < 3.0:
            assert watch.silent(store.claims().values()) == set()
            time.sleep(0.05)
        process.send_signal(signal.SIGSTOP)
        while watch.silent(store.claims().values()) != {RUN}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert store.active()["stale"].tolist() == [False]
    finally:
        process.kill()
        process.wait()


def test_a_claim_that_tells_lies_about_its_name_leads_nowhere(tmp_path):
    store = Store(tmp_path / "store")
    folder = tmp_path / "store" / "active"
    folder.mkdir(parents=True)
    (tmp_path / "victim.json").write_text("{}")
    lie = {"run_id": "../../victim", "generation": 7, "host": "h", "process": "1-1-1", "pid": 1, "at": "now"}
    (folder / f"{RUN}.1.json").write_text(json.dumps(lie))
    (folder / "..%2Fx.1.json").write_text("{}")
    assert store.active()["run_id"].tolist() == [RUN]
    store.clean(), store.retire(RUN)
    assert (tmp_path / "victim.json").exists()


def test_a_submit_is_listed_asked_to_stop_and_gone(store):
    driver = submits.new_driver()
    submits.announce(store.folder, driver, {"study": "demo", "slots": 2, "running": 1, "to_do": 3, "failed": 0})
    assert store.submits()[["driver", "study", "stale"]].to_dict("records") == [
        {"driver": driver, "study": "demo", "stale": False}
    ]
    submits.ask_to_stop(store.folder, driver)
    submits.ask_to_stop(store.folder, driver, [RUN])
    assert {str(asked) for asked in submits.asked_to_stop(store.folder, driver).values()} == {"None", str([RUN])}
    assert store.clean() == []
    submits.leave(store.folder, driver)
    assert store.submits().empty
    assert submits.asked_to_stop(store.folder, driver) == {}


def test_a_request_to_a_submit_that_is_no_more_is_swept_away(store):
    name = submits.ask_to_stop(store.folder, submits.new_driver())
    assert store.clean() == [name]


def test_the_checkpoint_of_a_stored_run_is_swept_away_and_another_stays(store, make_run):
    record, curve = make_run()
    store.publish(record, curve)
    for run_id in (record["run_id"], RUN):
        store.folder.replace(f"checkpoints/{run_id}.safetensors", b"x")
    assert store.clean() == [f"checkpoints/{record['run_id']}.safetensors"]
    assert store.folder.exists(f"checkpoints/{RUN}.safetensors")
