"""Corpora of images, and models that are trained on them as any other model is."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline import checkpoint
from algoprogress.pipeline.batches import Batches, starts
from algoprogress.pipeline.corpora.base import CorpusError, CorpusUnavailable
from algoprogress.pipeline.data import open_tokens
from algoprogress.pipeline.ensembles.choice import Choice
from algoprogress.pipeline.evaluation import scored, token_losses, validate
from algoprogress.pipeline.memory import saved_bytes
from algoprogress.pipeline.trainer import build, train

sklearn = pytest.importorskip("sklearn.datasets")
CPU = torch.device("cpu")
SMALL = ("resnet18_small", "vgg16_small", "vgg16_bn_small", "vit_nano", "mixer_nano", "mlp_small")


@pytest.fixture(scope="module")
def digits(_cache):
    return open_tokens("digits", None, "pixels-10")


@pytest.fixture
def image_spec(digits):
    def make(preset: str = "mlp_small", steps: int = 40, **changes) -> RunSpec:
        data = {"corpus": "digits", "corpus_sha256": digits.corpus_sha256, "tokenizer": "pixels-10", "context": 64}
        fields = {"architecture": {"preset": preset}, "tokens": steps * 2048, "learning_rate": 0.003, "data": data}
        return RunSpec.model_validate(fields | changes)

    return make


def test_the_digits_are_those_of_scikit_learn_each_once(digits):
    found = {}
    for split in (digits.train, digits.val):
        records = np.asarray(split).reshape(-1, 66)
        assert (records[:, 65] == digits.eot).all()
        for record in records:
            found[record[:64].astype(np.uint8).tobytes()] = int(record[64])
    data = sklearn.load_digits()
    values = np.rint(data.data * 255 / 16).astype(np.uint8)
    assert found == {x.tobytes(): int(y) for x, y in zip(values, data.target, strict=True)}
    assert len(digits.train) == 1437 * 66
    assert len(digits.val) == 360 * 66
    assert (digits.vocab_size, digits.image_values) == (10, 64)
    assert digits.epochs(1437 * 64) == 1.0
    text = digits.open_tokenizer().decode(digits.val[:65])
    assert np.array_equal(digits.open_tokenizer().encode_batch([text])[0], digits.val[:65])


@pytest.mark.parametrize("architecture", [a for a in architectures if architectures[a].objective == "class"])
def test_a_batch_is_whole_images_each_with_its_class_and_an_epoch_is_each_once(architecture, digits, image_spec):
    spec = image_spec(architecture=architecture, tokens=44 * 32 * 64)
    order = starts(spec, len(digits.train))
    assert len(set(order.flatten().tolist())) == order.size == 44 * 32
    batch = Batches(digits.train, order, 64, CPU)[0]
    images = {bytes(x.astype(np.uint8)): y for x, y in zip(*_labelled(digits.train), strict=True)}
    assert all(images[bytes(row[:64].to(torch.uint8).tolist())] == row[64] for row in batch)
    assert (starts(image_spec(seed=1), len(digits.train))[0] != order[0]).any()


def _labelled(split):
    records = np.asarray(split).reshape(-1, 66)
    return records[:, :64], records[:, 64]


@pytest.mark.parametrize("preset", SMALL)
@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 0.003), ("momentum", 0.05)])
def test_small_models_learn_the_digits(preset, optimizer, rate, digits, image_spec):
    fields = {"tokens": 40 * 1024, "batch_tokens": 1024, "optimizer": optimizer, "learning_rate": rate}
    run = train(image_spec(preset, **fields), digits)
    assert run.record["status"] == "done"
    assert run.record["initial_loss"] == pytest.approx(math.log(10), rel=0.15)
    assert run.record["val_tokens"] == 360
    assert 0 < run.record["loss_se"] < 0.2
    assert math.isnan(run.record["bits_per_byte"])
    assert run.record["compute"] == pytest.approx(run.record["tokens"] * image_spec(preset).flop_per_token())
    if optimizer == "adamw" or preset not in ("vit_nano", "mixer_nano", "vgg16_small"):  # which momentum is slow on
        assert run.record["loss"] < 0.93 * math.log(10)


def test_the_validated_loss_is_the_mean_over_images(digits, image_spec):
    spec = image_spec("resnet18_small", dtype="float64")
    model, _ = build(spec, CPU)
    with torch.no_grad():  # statistics of something else than the images
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
    x, y = _labelled(digits.val)
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(x.astype(np.int64)))[0][:, 0]
    direct = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y.astype(np.int64)), reduction="none").numpy()
    model.train()
    np.testing.assert_allclose(token_losses(model, scored(digits.val, spec), spec, CPU), direct, rtol=1e-9)
    found = validate(model, digits, spec, CPU)
    assert found.loss == pytest.approx(direct.mean(), rel=1e-12)
    assert found.loss_se == pytest.approx(direct.std(ddof=1) / math.sqrt(360), rel=1e-9)
    assert model.training


def test_a_killed_run_goes_on_with_its_running_statistics(digits, image_spec, killed_at_its_first_checkpoint, tmp_path):
    spec = image_spec("resnet18_small", 24)
    path, kept = killed_at_its_first_checkpoint(spec, digits)
    assert 0 < kept["step"] < 24
    model, optimizer = build(spec, CPU)
    checkpoint.read(path, model, optimizer, CPU)
    assert int(model.norm.num_batches_tracked) == kept["step"]
    resumed = train(spec, digits, checkpoint_path=path)
    assert resumed.record["loss"] == train(spec, digits).record["loss"]


def test_a_run_for_images_of_another_size_or_number_of_classes_is_refused(digits, image_spec):
    spec = image_spec()
    larger = spec.model_copy(update={"data": spec.data.model_copy(update={"context": 256})})
    with pytest.raises(ValueError, match=r"digits have 64 values, .* context is 256: set data.context to 64"):
        train(larger, digits)
    with pytest.raises(ValueError, match="has the classes 0 to 8, and an image is of class 9"):
        open_tokens("digits", None, "pixels-9")


def test_runs_of_images_are_not_batched_over_runs_and_need_memory(image_spec):
    assert Choice.always("cpu").least(image_spec()) is None
    assert saved_bytes(image_spec("resnet18_small")) > saved_bytes(image_spec("mlp_small")) > 64 * 4


def test_text_is_no_image(text_file: Path, cli):
    with pytest.raises(ValueError, match="pixels-10 reads images, and a document begins with '"):
        open_tokens(str(text_file), None, "pixels-10")
    code, _, err = cli("curvature", "spectrum", "mlp_small", "--corpus", text_file)
    assert code == 2
    assert "holds no images; use digits or images:<folder>@<pixels>" in err


def test_without_scikit_learn_the_digits_name_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setenv("ALGOPROGRESS_CACHE", str(tmp_path))
    with pytest.raises(
        CorpusUnavailable, match=r"scikit-learn, which is not installed; run pip install 'algoprogress\[im"
    ):
        open_tokens("digits", None, "pixels-10")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Red, green and blue squares of 12 x 10 pixels with a little noise, 12 of each in train and 4 in val."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for split, n in (("train", 12), ("val", 4)):
        for channel, name in enumerate(("red", "green", "blue")):
            (tmp_path / "mine" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 60, (10, 12, 3), dtype=np.uint8)
                pixels[..., channel] += 180
                image.fromarray(pixels).save(tmp_path / "mine" / split / name / f"{i}.png")
    return tmp_path / "mine"


def test_a_folder_for_each_class_is_a_corpus(folder, tmp_path):
    tokens = open_tokens(f"images:{folder}@4", None, "pixels-3")
    assert (len(tokens.train), len(tokens.val)) == (36 * 50, 12 * 50)
    records = np.asarray(tokens.train).reshape(-1, 50)
    channel_of = {0: 2, 1: 1, 2: 0}  # the classes are blue, green, red
    for record in records:
        brightness = record[:48].reshape(3, 16).mean(1)
        assert brightness.argmax() == channel_of[int(record[48])]
    data = {
        "corpus": f"images:{folder}@4",
        "corpus_sha256": tokens.corpus_sha256,
        "tokenizer": "pixels-3",
        "context": 48,
    }
    architecture = {"name": "resnet", "width": 4}
    spec = RunSpec(architecture=architecture, tokens=30 * 480, batch_tokens=480, learning_rate=0.01, data=data)
    assert train(spec, tokens).record["loss"] < 0.3
    grey = open_tokens(f"images:{folder}@4-grey", None, "pixels-3")
    assert grey.image_values == 16
    assert grey.corpus_sha256 != tokens.corpus_sha256


def test_images_without_splits_are_split_by_their_content(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(1).integers(0, 256, (200, 3, 3), dtype=np.uint8)
    for i, values in enumerate(pixels):
        for place in ("here", "there"):  # the same images under other names
            kind = tmp_path / place / f"class {i % 2}"
            kind.mkdir(parents=True, exist_ok=True)
            image.fromarray(values).save(kind / f"{place} {i}.bmp")
    here, there = (open_tokens(f"images:{tmp_path / place}@3-grey", None, "pixels-2") for place in ("here", "there"))
    assert here.corpus_sha256 == there.corpus_sha256
    assert [len(split) % 11 for split in (here.train, here.val, here.test)] == [0, 0, 0]
    assert len(here.train) + len(here.val) + len(here.test) == 200 * 11
    assert 0 < len(here.val) < len(here.train) / 5
    assert np.array_equal(here.val, there.val)


def test_what_is_wrong_with_a_folder_of_images_is_said(folder, tmp_path):
    (tmp_path / "one" / "only").mkdir(parents=True)
    for name, message in {
        "images:here": r"does not name images; write images:<folder>@<pixels a side>",
        f"images:{tmp_path / 'none'}@8": "There is no folder",
        f"images:{tmp_path / 'one'}@8": "has 1 folders of images; give it one for each class, at least two",
    }.items():
        with pytest.raises(CorpusError, match=message):
            open_tokens(name, None, "pixels-3")
    broken = folder / "train" / "red" / "broken.png"
    broken.write_bytes(b"not a picture")
    with pytest.raises(CorpusError, match=r"broken.png cannot be read .*; write it again, or remove it"):
        open_tokens(f"images:{folder}@4", None, "pixels-3")
    broken.unlink()
    (folder / "train" / "yellow").mkdir()
    with pytest.raises(CorpusError, match=r"The class yellow of .* has no image"):
        open_tokens(f"images:{folder}@4", None, "pixels-3")


def test_a_study_of_images_is_submitted_and_read_as_any_other(cli, digits, tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text(
        """
name: seen
question: Is a perceptron as good with momentum?
baseline: adamw
common:
  data: {corpus: digits, tokenizer: pixels-10, context: 64}
  architecture: {preset: mlp_small, width: 16}
  tokens: 40960
arms:
  adamw: {learning_rate: 0.01}
  momentum: {optimizer: momentum, learning_rate: 0.1}
""",
        encoding="utf-8",
    )
    code, _, err = cli("submit", study, "--store", tmp_path / "store", "--executor", "inline")
    assert code == 0, err
    code, out, err = cli("runs", "seen", "--store", tmp_path / "store", "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert sorted(row["arm"] for row in rows) == ["adamw", "momentum"]
    assert all(row["status"] == "done" and row["loss"] < 2.3 for row in rows)
