"""A store on S3, against a real server of this machine: the same promises as a folder, without rename."""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from algoprogress.results import Store, StoreError, submits

RUN = "ab" * 10


@pytest.fixture
def store(s3_url) -> Store:
    return Store(s3_url)


def test_what_was_published_is_read_back_and_never_overwritten(store, make_run):
    record, curve = make_run()
    assert store.runs().empty
    store.writable()
    assert store.publish(record, curve) is True
    assert store.publish(record | {"loss": 9.0}, curve) is False
    assert store.record(record["run_id"]) == record
    assert store.curves(run_ids=[record["run_id"]]).drop(columns="run_id").equals(curve)


def test_every_operation_of_a_store_works(store, make_run):
    record, curve = make_run()
    run_id = record["run_id"]
    store.publish(record, curve)
    store.save_study({"name": "demo", "baseline": "a", "arms": {"a": [{"run_id": run_id}]}})
    assert store.studies() == ["demo"]
    claim = store.claim(RUN, {"driver": "x"})
    assert claim.beat()
    store.record_failure(run_id, {"class": "infra"})
    driver = submits.new_driver()
    submits.announce(store.folder, driver, {"study": "demo"})
    submits.ask_to_stop(store.folder, driver)
    assert store.compact() == 1
    assert store.runs("demo")["loss"].tolist() == [record["loss"]]
    assert len(store.failures()) == len(store.active()) == len(store.submits()) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.verify().empty
    claim.release()
    submits.leave(store.folder, driver)
    store.set_aside(run_id, "a test")
    assert store.runs().empty and store.active().empty and store.submits().empty
    assert not store.folder.entries("submits")
    assert store.folder.read(f"quarantine/{run_id}.1.parquet")


def test_of_many_writers_at_once_one_wins(store, make_run):
    record, curve = make_run()
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.publish(record | {"attempt": i}, curve), range(16)))
    assert sum(won) == 1
    assert store.record(record["run_id"])["attempt"] == won.index(True)


def test_an_upload_whose_answer_was_lost_and_that_was_repeated_is_a_win(store):
    assert store.folder.create("runs/x", b"mine")
    assert store.folder.create("runs/x", b"mine")  # what a client that saw no answer does
    assert not store.folder.create("runs/x", b"another's")


def test_a_conflict_is_tried_again(store, monkeypatch):
    filesystem, _ = store.folder._target
    real, calls = filesystem.pipe_file, []

    def busy(*args, **options):
        calls.append(args)
        if len(calls) < 3:
            raise OSError(16, "ConditionalRequestConflict: a conflicting operation is in progress")
        return real(*args, **options)

    monkeypatch.setattr(filesystem, "pipe_file", busy)
    assert store.folder.create("runs/x", b"mine")
    assert len(calls) == 3


def test_what_another_process_writes_is_seen_at_once(store, make_run):
    assert store.run_ids() == set() and not store.has(RUN) and store.claims() == {}
    code = (
        "import sys; from algoprogress.results import Store; s = Store(sys.argv[1]); s.claim('ab' * 10, {})\n"
        "s.folder.create('runs/' + 'ab' * 10 + '.parquet', b'x')"
    )
    subprocess.run([sys.executable, "-c", code, store.url], check=True)
    assert store.run_ids() == {RUN} and store.has(RUN) and set(store.claims()) == {RUN}
    store.folder.remove(f"runs/{RUN}.parquet")
    assert store.run_ids() == set() and not store.has(RUN)


def test_of_many_processes_one_claims_a_run_and_one_takes_it_over(s3_url):
    code = (
        "import sys\nfrom algoprogress.results import Store\nover = int(sys.argv[2])\n"
        "print(sum(Store(sys.argv[1]).claim(f'{i:020x}', {}, over) is not None for i in range(5)))\n"
        "sys.stdout.flush(); sys.stdin.read()"  # alive until all have tried
    )
    for over in ("0", "1"):
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code, s3_url, over], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        won = [int(process.stdout.readline()) for process in started]
        for process in started:
            process.communicate()
        assert sum(won) == 5


def test_a_server_that_does_not_answer_is_one_sentence_without_the_key(s3_url, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "retries", 1, raising=False)
    try:
        with pytest.raises(StoreError, match=r"^Cannot .* s3://.*check the address.*--store") as caught:
            Store(s3_url).writable()
        assert "a-secret-of-the-tests" not in str(caught.value)
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_bucket_that_is_not_there_is_one_sentence(s3_server):
    with pytest.raises(StoreError, match=r"no-such-bucket.*create the bucket"):
        Store("s3://no-such-bucket/store").writable()
