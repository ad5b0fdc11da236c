"""A small corpus on disk, opened once, and specs that train on it in a second."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 documents of made-up words drawn from a Zipf law: learnable, and the same everywhere."""
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshr", k=rng.randint(2, 6))) for _ in range(40)]
    weights = [1 / (i + 1) for i in range(len(words))]
    path = tmp_path_factory.mktemp("corpus") / "words.txt"
    documents = (" ".join(rng.choices(words, weights, k=rng.randint(150, 400))) for _ in range(300))
    path.write_text("<|endoftext|>".join(documents), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tokens(text_file: Path, _cache: None):
    from algoprogress.pipeline.data import open_tokens

    return open_tokens(str(text_file))


@pytest.fixture
def make_spec(text_file: Path, tokens):
    """A RunSpec of half a second: tiny model, 40 steps of 256 tokens."""
    from algoprogress.ablations.spec import RunSpec

    def make(architecture: str = "transformer", dropout: float = 0.0, **changes):
        body = {
            "transformer": {"name": "transformer", "preset": "modern", "width": 16, "n_layers": 1},
            "lstm": {"name": "lstm", "width": 16},
        }[architecture]
        fields = {
            "architecture": {**body, "dropout": dropout},
            "tokens": 40 * 256,
            "batch_tokens": 256,
            "learning_rate": 0.02,
            "data": {"corpus": str(text_file), "corpus_sha256": tokens.corpus_sha256, "context": 32},
            "evaluation": {"tokens": 1024},
        }
        return RunSpec.model_validate({**fields, **changes})

    return make


@pytest.fixture
def tiny_study(text_file: Path):
    """Two arms, two budgets, two seeds: eight runs of half a second on the small corpus."""
    from algoprogress.ablations.study_file import load

    path = text_file.with_name("tiny.yaml")
    path.write_text(
        f"""
name: tiny
question: Does a study of eight runs of half a second work?
baseline: lstm
common:
  data: {{corpus: {text_file}, context: 32}}
  batch_tokens: 256
  learning_rate: 0.02
  evaluation: {{tokens: 1024}}
arms:
  lstm:
    architecture: {{name: lstm, width: 16}}
    compute: [2e8, 4e8]
    cross: {{seed: [0, 1]}}
  modern:
    architecture: {{preset: modern, width: 16, n_layers: 1}}
    compute: [2e8, 4e8]
    cross: {{seed: [0, 1]}}
""",
        encoding="utf-8",
    )
    return load(path)


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run a command in this process: (exit code, stdout, stderr)."""

    from algoprogress.pipeline.cli import main

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["algoprogress", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return run


class Killed(BaseException):
    """What nothing in a trainer catches."""


@pytest.fixture
def killed_at_its_first_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`kill(spec, tokens) -> (path, state)`: train until a checkpoint is on disk and no further."""
    from algoprogress.pipeline import checkpoint
    from algoprogress.pipeline.trainer import train

    def kill(spec, tokens):
        path, original, written = tmp_path / "run.safetensors", checkpoint.write, []

        def write_then_die(*args):
            original(*args)
            written.append(args)
            raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(checkpoint, "write", write_then_die)
            train(spec, tokens, checkpoint_path=path, checkpoint_seconds=0.0)
        assert path.exists()
        return path, written[0][-1]

    return kill
