"""Simulated runs, for every test that needs stored runs but no training."""

import hashlib
import logging
import math
import secrets
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from algoprogress.pipeline import threads

threads.one()  # before torch is imported, and in every process that a test starts

# a shell that runs this in the background has its children ignore Ctrl-C, and so would the commands under test
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

MakeRun = Callable[..., tuple[dict[str, Any], pd.DataFrame]]


def _hex(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


def _run(
    *,
    architecture: str | dict[str, Any] = "transformer",
    width: int = 32,
    tokens: int = 200_000,
    learning_rate: float = 0.01,
    seed: int = 0,
    curve_rows: int = 12,
    **facts: Any,
) -> tuple[dict[str, Any], pd.DataFrame]:
    n_params = facts.get("n_params", 12 * 2 * width**2)
    compute = float(facts.get("compute", 6 * (n_params + 257 * width) * tokens))
    loss = facts.get("loss", 1.5 + 40 * compute**-0.12)
    config = architecture
    if isinstance(config, str):
        config = {"name": config, "width": width, "n_layers": 2}
        config |= {"forget_bias": 1.0} if architecture == "lstm" else {"norm": "rmsnorm", "tied": True}
    spec = {
        "architecture": config,
        "optimizer": {"name": "adamw", "beta1": 0.9, "beta2": 0.95},
        "schedule": {"name": "cosine", "warmup": 0.1},
        "reparameterization": None,
        "data": {"corpus": "english", "corpus_sha256": "c" * 64, "tokenizer": "bytes", "context": 128},
        "evaluation": {"tokens": 65536},
        "batch_tokens": 2048,
        "tokens": tokens,
        "learning_rate": learning_rate,
        "clip": 1.0,
        "seed": seed,
        "dtype": "float32",
    }
    science = (sorted(config.items()), tokens, learning_rate)
    record = {
        "schema_version": 2,
        "run_id": _hex(science, seed),
        "configuration_id": _hex(science),
        "spec": spec,
        "status": "done",
        "loss": loss,
        "loss_se": 0.01,
        "train_loss": loss - 0.02 if loss is not None else None,
        "initial_loss": math.log(257),
        "bits_per_byte": loss / math.log(2) if loss is not None else None,
        "n_params": n_params,
        "n_params_total": n_params + 257 * width,
        "tokens": tokens,
        "steps": tokens // 2048,
        "compute": compute,
        "compute_6n": 6.0 * n_params * tokens,
        "compute_6n_total": 6.0 * (n_params + 257 * width) * tokens,
        "epochs_seen": tokens / 4e6,
        "corpus": "english",
        "corpus_sha256": "c" * 64,
        "tokenizer": "bytes",
        "tokenizer_sha256": "d" * 64,
        "val_tokens": 65536,
        "wall_seconds": 3.5,
        "tokens_per_second": tokens / 3.5,
        "flop_per_second": compute / 3.5,
        "gemm_flop_per_second": 9e10,
        "gemm_fraction": compute / 3.5 / 9e10,
        "matmul": "mkl",
        "attention": "compiled",
        "kernels": "0123456789ab",
        "torch_compile": False,
        "peak_memory_bytes": 400_000_000,
        "device": "cpu",
        "n_threads": 1,
        "micro_batches": 1,
        "host": "node-1",
        "python_version": "3.11.9",
        "torch_version": "2.13.0",
        "package_version": "0.1.0",
        "git_sha": "e" * 40,
        "git_dirty": None,
        "started_at": "2026-01-02T03:04:05+00:00",
        "ended_at": "2026-01-02T03:04:09+00:00",
        "attempt": 1,
    } | facts
    steps = np.geomspace(1, max(tokens // 2048, curve_rows), curve_rows).astype(np.int64)
    steps = np.maximum(steps, np.arange(1, curve_rows + 1))  # no step twice
    seen = steps * 2048
    training_loss = 1.5 + 4 * seen.astype(float) ** -0.1
    evaluated = np.arange(len(steps)) % 4 == 3
    curve = pd.DataFrame(
        {
            "step": steps,
            "tokens": seen,
            "compute": compute * seen / tokens,
            "loss": training_loss,
            "val_loss": np.where(evaluated, training_loss + 0.02, np.nan),
            "val_loss_se": np.where(evaluated, 0.01, np.nan),
            "learning_rate": np.full(len(steps), learning_rate),
            "grad_norm": 1 / steps,
            "wall_seconds": 0.01 * steps,
        }
    )
    return record, curve


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's own cache; all have one, so that all compute alike."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ALGOPROGRESS_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def make_run() -> MakeRun:
    """`make_run(**overrides) -> (record, curve)`: a valid run that nobody trained.

    architecture (a name or a whole configuration), width, tokens, learning_rate, seed and curve_rows change the spec,
    and with it the run id; any other keyword replaces a fact of the record, such as loss, compute, n_params or status.
    """
    return _run


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A real S3 server on a port of this machine, with an empty bucket; the URL of the bucket."""
    server_module = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        patch.setenv(name, value)
    s3fs.S3FileSystem(use_listings_cache=False).mkdir("algoprogress-tests")
    yield "s3://algoprogress-tests"
    patch.undo()
    server.stop()


@pytest.fixture
def s3_url(s3_server: str) -> str:
    """A new store on the S3 server."""
    return f"{s3_server}/{secrets.token_hex(4)}"
