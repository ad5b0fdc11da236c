"""What is tried again, how often and how; and what is kept of a failure."""

from __future__ import annotations

import os
import textwrap

import pytest
import torch

from algoprogress.pipeline import executors, trainer
from algoprogress.pipeline.executors.process import ProcessExecutor
from algoprogress.pipeline.failures import CRASH_RETRIES, NODE_RETRIES, classify, verdict
from algoprogress.pipeline.plan import resolve
from algoprogress.pipeline.progress import Progress
from algoprogress.pipeline.redaction import redact
from algoprogress.pipeline.submit import submit
from algoprogress.results import Store

pytestmark = pytest.mark.alone


def failure(kind: str, **facts):
    return {"class": kind, "message": f"a {kind}", "attempt": 1, **facts}


@pytest.mark.parametrize("kind", ["failed", "timeout", "cancelled"])
def test_what_would_fail_again_is_not_tried_again_until_it_is_forgiven(kind):
    assert not verdict([failure(kind)]).again
    assert kind in verdict([failure(kind)]).reason
    assert verdict([failure(kind)], forgiven=1).again
    assert not verdict([failure(kind), failure(kind)], forgiven=1).again


def test_out_of_memory_is_tried_once_more_with_each_batch_in_two_parts():
    once = verdict([failure("oom", micro_batches=1)], rows=64)
    assert (once.again, once.micro_batches) == (True, 2)
    twice = verdict([failure("oom", micro_batches=1), failure("oom", micro_batches=2)], rows=64)
    assert not twice.again
    assert "2 parts" in twice.reason
    asked = verdict([failure("oom", micro_batches=1), failure("oom", micro_batches=2)], forgiven=2, rows=64)
    assert (asked.again, asked.micro_batches) == (True, 4)  # what is known not to fit is not tried
    assert not verdict([failure("oom", micro_batches=1)], rows=1).again
    assert verdict([failure("oom", micro_batches=2)], rows=3).micro_batches == 3


def test_an_old_failure_without_its_number_of_parts_counts_as_one_part():
    assert verdict([failure("oom", micro_batches=float("nan"))], rows=8).micro_batches == 2


def test_a_dead_worker_and_a_lost_machine_have_budgets_of_their_own():
    past = [failure("infra")] * (CRASH_RETRIES + NODE_RETRIES)
    assert verdict(past).again  # of earlier submits
    assert verdict(past, lost={"crash": CRASH_RETRIES, "node": NODE_RETRIES}).again
    assert not verdict(past, lost={"crash": CRASH_RETRIES + 1}).again
    assert not verdict(past, lost={"node": NODE_RETRIES + 1}).again


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "oom"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), "oom"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "oom"),
        (ValueError("the corpus ran out of memory lane"), "failed"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "failed"),
    ],
)
def test_an_error_has_a_class(error, kind):
    assert classify(error) == kind


def test_a_real_allocation_that_cannot_be_had_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert classify(caught.value) == "oom"


def one_run(study):
    return resolve(study.model_copy(update={"arms": {"lstm": study.arms["lstm"][:1]}}))


def test_a_run_that_does_not_fit_is_trained_in_parts_and_says_so(tiny_study, tmp_path, monkeypatch):
    real, asked = trainer.train, []

    def small_device(*args, micro_batches, **options):
        asked.append(micro_batches)
        if micro_batches < 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args, micro_batches=micro_batches, **options)

    monkeypatch.setattr(trainer, "train", small_device)
    store, study = Store(tmp_path), one_run(tiny_study)
    summary = submit(study, store, lambda: executors.make("inline"), Progress())
    assert (summary.trained, summary.failed, asked) == (1, {}, [1, 2])
    row = store.runs("tiny").to_dict("records")[0]
    assert (row["micro_batches"], row["attempt"]) == (2, 2)
    assert store.failures()["class"].tolist() == ["oom"]
    assert store.active().empty


def test_a_driver_that_died_between_two_attempts_does_not_repeat_the_first(tiny_study, tmp_path, monkeypatch):
    store, study = Store(tmp_path), one_run(tiny_study)
    run_id = next(iter(study.specs()))
    store.record_failure(run_id, {"class": "oom", "message": "too large", "micro_batches": 1})
    submit(study, store, lambda: executors.make("inline"), Progress())
    assert store.runs("tiny")["micro_batches"].tolist() == [2]


def test_a_lost_worker_of_an_earlier_submit_is_no_reason_to_leave_a_run_out(tiny_study, tmp_path):
    store, study = Store(tmp_path), one_run(tiny_study)
    run_id = next(iter(study.specs()))
    for _ in range(5):
        store.record_failure(run_id, {"class": "infra", "message": "killed"})
    assert submit(study, store, lambda: executors.make("inline"), Progress()).trained == 1
    assert store.record(run_id)["attempt"] == 6


def broken(monkeypatch, tmp_path, body: str):
    """Workers find, before anything else, a module that replaces `train`: they are other processes."""
    folder = tmp_path / "site"
    folder.mkdir()
    code = f"""
import ctypes, os, sys, warnings
from algoprogress.pipeline import trainer
def train(*args, **options):
{textwrap.indent(textwrap.dedent(body), "    ")}
trainer.train = train
"""
    hook = "import sys\nif 'spawn_main' in ' '.join(sys.orig_argv):\n    import broken_training\n"
    (folder / "sitecustomize.py").write_text(hook)
    (folder / "broken_training.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("SOME_PASSWORD", "hunter2hunter2")


def test_what_a_worker_printed_is_kept_when_its_run_fails(tiny_study, tmp_path, monkeypatch):
    body = """
    print("printed by Python, with " + os.environ["SOME_PASSWORD"])
    warnings.warn("a warning")
    ctypes.CDLL(None).puts(b"printed by C")
    ctypes.CDLL(None).fflush(None)
    raise RuntimeError("no luck with " + os.environ["SOME_PASSWORD"])
    """
    broken(monkeypatch, tmp_path, body)
    store = Store(tmp_path / "store")
    submit(one_run(tiny_study), store, lambda: ProcessExecutor(1), Progress())
    failed = store.failures().to_dict("records")[0]
    assert failed["class"] == "failed"
    for text in ("printed by Python", "printed by C", "a warning"):
        assert text in failed["log"]
    assert "hunter2hunter2" not in str(failed)
    assert "RuntimeError: no luck with [redacted]" in failed["message"]
    assert "no luck" in failed["traceback"]
    assert failed["seconds"] > 0


def test_a_crash_in_a_library_leaves_its_last_words(tiny_study, tmp_path, monkeypatch):
    broken(monkeypatch, tmp_path, "ctypes.string_at(0)")
    store = Store(tmp_path / "store")
    submit(one_run(tiny_study), store, lambda: ProcessExecutor(1), Progress())
    failures = store.failures()
    assert failures["class"].tolist() == ["infra"] * (CRASH_RETRIES + 1)
    assert failures["message"].str.contains("SIGSEGV").all()
    assert failures["log"].str.contains("Segmentation fault").all()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("cannot open https://ann:hunter2@host/x", "hunter2"),
        ("key AKIAIOSFODNN7EXAMPLE was refused", "AKIAIOSFODNN7EXAMPLE"),
        ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
        ("GET /x?X-Amz-Signature=0123abcd0123abcd&y=1", "0123abcd0123abcd"),
        ("hf_abcdefghijklmnopqrstuvwx", "abcdefghijklmnopqrstuvwx"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "MIIE"),
    ],
)
def test_what_looks_like_a_credential_is_taken_out(text, secret):
    assert secret not in redact(text)
    assert "[redacted]" in redact(text)


def test_values_of_secret_variables_are_taken_out_and_other_text_stays(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    monkeypatch.setenv("MY_TOKEN", "abc")  # too short to be told from a word
    text = "abc: loss 2.5 at step 3 of s3://bucket/store"
    assert redact(f"{text} wJalrXUtnFEMI/K7MDENG") == f"{text} [redacted]"
