"""A user's grid as YAML: every axis, and one sentence with file, line and nearest key for everything that is wrong."""

import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from algoprogress.ablations import study_file
from algoprogress.ablations.allocation import isoflop
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.spec import RunSpec
from algoprogress.ablations.study import Study, Sweep
from algoprogress.ablations.study_file import StudyFileError, load

Write = Callable[[str], Path]
WHOLE = """
name: mine
question: Is it so?
baseline: narrow
common:
  data: {corpus: english, corpus_sha256: SHA, context: 64}
  batch_tokens: 512
sweep: {extensions: 3, seeds: 2}
arms:
  narrow:
    architecture: {name: lstm, width: 32}
    tokens: 5120
    learning_rate: 0.01
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(textwrap.dedent(text).replace("SHA", "ab" * 32).lstrip("\n"), encoding="utf-8")
        return path

    return write


def arm(body: str) -> str:
    """A study of one arm, whose body begins on line 7."""
    body = textwrap.indent(textwrap.dedent(body).strip("\n"), " " * 4)
    top = (
        "name: mine\nbaseline: it\ncommon: {data: {corpus_sha256: SHA, context: 64}, batch_tokens: 512}\narms:\n  it:\n"
    )
    return top + "    architecture: {name: lstm, width: 32}\n" + body + "\n"


def specs(study: Study) -> list[RunSpec]:
    return [entry.spec for _, entry in study.entries()]


def error(path: Path) -> str:
    with pytest.raises(StudyFileError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message.rstrip("\n") or "not valid YAML" in message
    return message.removeprefix(str(path))


def test_a_whole_study_is_read(write):
    study = load(write(WHOLE))
    assert (study.name, study.question, study.baseline) == ("mine", "Is it so?", "narrow")
    assert study.sweep == Sweep(extensions=3, seeds=2)
    (spec,) = specs(study)
    assert (spec.tokens, spec.batch_tokens, spec.data.context, spec.architecture.width) == (5120, 512, 64, 32)


def test_a_file_gives_the_runs_that_python_gives(write):
    (spec,) = specs(load(write(WHOLE)))
    data = {"corpus_sha256": "ab" * 32, "context": 64}
    architecture = {"name": "lstm", "width": 32}
    same = RunSpec(architecture=architecture, tokens=5120, learning_rate=0.01, batch_tokens=512, data=data)
    assert spec.run_id == same.run_id


def test_the_example_in_the_documentation_is_a_study(write):
    example = study_file.__doc__.split("\n\n", 1)[1]
    study = load(write(example))
    # 2 rates x 2 (seed, clip) pairs x 2 schedules, less the 2 points that are excluded; each at 2 budgets
    assert len(study.arm("narrow")) == (2 * 2 * 2 - 2) * 2
    assert {e.compute_budget for e in study.arm("narrow")} == {1e9, 1e10}


def test_cross_gives_every_combination(write):
    study = load(write(arm("tokens: 5120\ncross: {learning_rate: [0.1, 0.2], seed: [0, 1, 2]}")))
    assert [(s.learning_rate, s.seed) for s in specs(study)] == [(r, s) for r in (0.1, 0.2) for s in (0, 1, 2)]


def test_zip_goes_side_by_side(write):
    study = load(write(arm("tokens: 5120\nzip: {learning_rate: [0.1, 0.2], seed: [5, 6]}")))
    assert [(s.learning_rate, s.seed) for s in specs(study)] == [(0.1, 5), (0.2, 6)]


def test_list_gives_each_item(write):
    body = "tokens: 5120\nlearning_rate: 0.1\nlist: [{schedule: linear, seed: 1}, {schedule: {name: wsd, final: 0.5}}]"
    study = load(write(arm(body)))
    assert [(s.schedule.name, s.schedule.final, s.seed) for s in specs(study)] == [("linear", 0.1, 1), ("wsd", 0.5, 0)]


def test_axes_reach_into_a_part_with_a_dot(write):
    body = "tokens: 5120\nlearning_rate: 0.1\ncross: {architecture.width: [8, 16], architecture.n_layers: [1, 2]}"
    found = [(s.architecture.width, s.architecture.n_layers) for s in specs(load(write(arm(body))))]
    assert found == [(8, 1), (8, 2), (16, 1), (16, 2)]
    assert all(s.architecture.name == "lstm" for s in specs(load(write(arm(body)))))


@pytest.mark.parametrize(
    "order", ["{schedule: [linear], schedule.final: [0.1, 0.5]}", "{schedule.final: [0.1, 0.5], schedule: [linear]}"]
)
def test_a_name_on_one_axis_and_its_field_on_another_are_one_part(write, order):
    study = load(write(arm(f"tokens: 5120\nlearning_rate: 0.1\ncross: {order}")))
    assert [(s.schedule.name, s.schedule.final) for s in specs(study)] == [("linear", 0.1), ("linear", 0.5)]


def test_axes_multiply_and_exclude_takes_points_away(write):
    body = """
    tokens: 5120
    cross: {learning_rate: [0.1, 2e-1]}
    zip: {seed: [1, 2], clip: [1.0, 0.5]}
    list: [{dtype: float32}, {dtype: float64}]
    exclude: [{learning_rate: 0.2, seed: 1}, {dtype: float64, seed: 2.0}]
    """
    found = [(s.learning_rate, s.seed, s.clip, s.dtype) for s in specs(load(write(arm(body))))]
    assert found == [
        (0.1, 1, 1.0, "float32"),
        (0.1, 1, 1.0, "float64"),
        (0.1, 2, 0.5, "float32"),
        (0.2, 2, 0.5, "float32"),
    ]


def test_compute_is_turned_into_tokens(write):
    study = load(write(arm("compute: [1e9, 3e9]\ncross: {learning_rate: [0.1, 0.2]}")))
    assert [e.compute_budget for _, e in study.entries()] == [1e9, 3e9, 1e9, 3e9]
    for _, e in study.entries():
        (row,) = isoflop(e.compute_budget, [e.spec.architecture], 257, 64, 512)
        assert e.spec.tokens == row.tokens


def test_a_preset_is_a_starting_point(write):
    text = arm("tokens: 5120\nlearning_rate: 0.1").replace(
        "{name: lstm, width: 32}", "{preset: retro, width: 32, norm: rmsnorm}"
    )
    (spec,) = specs(load(write(text)))
    assert spec.architecture == Transformer.preset("retro", width=32, norm="rmsnorm")


def test_an_arm_overrides_what_is_common_field_by_field(write):
    text = WHOLE.replace("learning_rate: 0.01", "learning_rate: 0.01\n    data: {context: 32}\n    seed: 4")
    (spec,) = specs(load(write(text)))
    assert (spec.data.context, spec.data.corpus_sha256, spec.seed) == (32, "ab" * 32, 4)


def test_a_field_of_a_common_name_can_be_set_in_an_arm(write):
    text = WHOLE.replace("  batch_tokens", "  optimizer: adam\n  batch_tokens") + "    optimizer: {beta1: 0.5}\n"
    (spec,) = specs(load(write(text)))
    assert (spec.optimizer.name, spec.optimizer.beta1) == ("adam", 0.5)


@pytest.mark.parametrize("many", ["100000000000", "1e11", "1.0e11", "1.0e+11", "[1e11]", "[100000000000.0]"])
def test_every_way_to_write_a_budget_is_one_identity(write, many):
    (spec,) = specs(load(write(arm(f"learning_rate: 0.1\ncompute: {many}"))))
    (same,) = specs(load(write(arm("learning_rate: 1e-1\ncompute: [1e+11]"))))
    assert spec.run_id == same.run_id


@pytest.mark.parametrize("tokens", ["512e3", "512000", "512000.0", "5.12e5", "'512000'"])
def test_every_way_to_write_a_count_is_one_identity(write, tokens):
    (spec,) = specs(load(write(arm(f"learning_rate: 0.1\ntokens: {tokens}"))))
    (same,) = specs(load(write(arm("learning_rate: 1e-1\ntokens: 512000"))))
    assert spec.run_id == same.run_id


def test_a_study_needs_no_question_and_no_sweep(write):
    study = load(write(arm("tokens: 5120\nlearning_rate: 0.1")))
    assert (study.question, study.sweep) == ("", None)


def test_an_arm_may_be_named_by_a_year(write):
    study = load(write(WHOLE.replace("narrow", "2017")))
    assert study.baseline == "2017"
    assert list(study.arms) == ["2017"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("question:", "qestion:", ":2: unknown key 'qestion' in the study; did you mean 'question'?"),
        (
            "baseline: narrow",
            "baseline: narow",
            ":3: the baseline 'narow' is not an arm; arms: narrow; did you mean 'narrow'?",
        ),
        (
            "batch_tokens: 512",
            "batch_token: 512",
            ":6: unknown key 'batch_token' in common; did you mean 'batch_tokens'?",
        ),
        ("context: 64", "contxt: 64", ":5: unknown key 'contxt' in data; did you mean 'context'?"),
        ("extensions: 3", "extension: 3", ":7: unknown key 'extension' in sweep; did you mean 'extensions'?"),
        ("seeds: 2", "seeds: 0", ":7: seeds: Input should be greater than or equal to 1 (got 0)"),
        ("sweep: {extensions: 3, seeds: 2}", "sweep: 3", ":7: sweep must be a mapping, not 3"),
        (
            "learning_rate: 0.01",
            "learning_rte: 0.01",
            ":12: unknown key 'learning_rte' in arms.narrow; did you mean 'learning_rate'?",
        ),
        ("learning_rate: 0.01", "learning_rate: fast", ":12: learning_rate: Input should be a valid number"),
        ("learning_rate: 0.01", "learning_rate: .nan", ":12: learning_rate: Input should be a finite number"),
        ("    learning_rate: 0.01\n", "", ":9: the field learning_rate is missing"),
        ("    tokens: 5120\n", "", ":9: the field tokens is missing; or give compute"),
        ("tokens: 5120", "tokens: 5000", "tokens 5000 is not a multiple of batch_tokens 512: try 4608"),
        ("tokens: 5120", "tokens: 5120\n    tokens: 512", ":12: the key 'tokens' is given twice: keep one"),
        ("width: 32", "widht: 32", ":10: unknown key 'widht' in architecture; did you mean 'width'?"),
        ("name: lstm", "name: lstn", ":10: architecture: unknown architecture 'lstn'; known: "),
        (
            "name: lstm, width: 32",
            "preset: futuristic",
            ":10: architecture: unknown preset 'futuristic'; known: retro, modern",
        ),
        ("name: mine", "name: ../mine", ":1: name: a study's name is letters"),
        ("name: mine\n", "", ":1: the key 'name' is missing"),
        ("arms:", "arms: []\nold:", "unknown key 'old' in the study"),
    ],
    ids=lambda text: text.strip()[:30],
)
def test_what_is_wrong_is_said_with_line_and_nearest_key(write, old, new, message):
    assert message in error(write(WHOLE.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("optimizer: adma", ":9: optimizer: unknown optimizer 'adma'"),
        ("optimizer: adma", "did you mean 'adam'?"),
        ("optimizer: {name: adam, beta3: 1}", ":9: unknown key 'beta3' in optimizer; did you mean 'beta"),
        ("optimizer: {name: [adam]}", ":9: optimizer: unknown optimizer ['adam']; known: "),
        ("schedule: {name: cosine, finl: 1}", ":9: unknown key 'finl' in schedule; did you mean 'final'?"),
        ("evaluation: {tokns: 1}", ":9: unknown key 'tokns' in evaluation; did you mean 'tokens'?"),
        ("cross:\n  sed: [1]", ":10: unknown key 'sed' in a run; did you mean 'seed'?"),
        ("cross:\n  architecture.widht: [1]", ":10: unknown key 'widht' in architecture; did you mean 'width'?"),
        ("cross:\n  seed: 3", ":10: seed needs a list of values, not 3"),
        ("cross: [seed]", ":9: cross must be a mapping"),
        ("zip:\n  seed: [1, 2]\n  clip: [1]", ":9: lists that are zipped must be equally long: seed 2, clip 1"),
        ("zip: 3", ":9: zip must be a mapping"),
        ("list:\n  - {seed: 1}\n  - {sed: 2}", ":11: unknown key 'sed' in a run; did you mean 'seed'?"),
        ("list:\n  - {seed: 1}\n  - 3", ":11: an item of list is a mapping of fields, not 3"),
        ("list: {seed: 1}", ":9: list must be a list of mappings"),
        ("cross: {seed: [1]}\nexclude: [{seed: 1}]", ":10: every point of this arm is excluded"),
        (
            "cross: {seed: [1, 2]}\nexclude:\n  - {sed: 1}",
            ":11: unknown key 'sed' in the axes of this arm; did you mean 'seed'?",
        ),
        ("cross: {seed: [1, 2]}\nexclude: {seed: 1}", ":10: exclude must be a list of mappings"),
        ("cross: {seed: [1, 2]}\nexclude: [1]", ":10: an item of exclude is a mapping of fields, not 1"),
        ("compute: [1e11]", ":7: give tokens or compute, not both"),
        ("evaluation: {state: kept}", ":9: evaluation.state: Input should be 'reset' or 'carry' (got 'kept')"),
    ],
    ids=lambda text: text.replace("\n", " ")[:40],
)
def test_what_is_wrong_on_an_axis_is_said_with_its_line(write, body, message):
    assert message in error(write(arm("tokens: 5120\nlearning_rate: 0.1\n" + body)))


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("[lots]", ":8: a budget is a number of FLOP, not 'lots'"),
        ("[1e3]", ":8: one batch of 512 tokens costs"),
        ("[.inf]", ":8: a budget is a positive number of FLOP, not inf"),
        ("[-1e9]", ":8: a budget is a positive number of FLOP"),
        ("0", ":8: a budget is a positive number of FLOP"),
        ("[[1]]", ":8: a budget is a number of FLOP, not [1]"),
        ("{a: 1}", ":8: a budget is a number of FLOP"),
        ("[]", "the field tokens is missing; or give compute"),
    ],
)
def test_a_budget_that_cannot_be_spent_is_refused(write, budget, message):
    assert message in error(write(arm(f"learning_rate: 0.1\ncompute: {budget}")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: a study file is a mapping with the keys name, question, baseline"),
        (b"# nothing\n", ":1: a study file is a mapping"),
        (b"- name: x\n", ":1: a study file is a mapping"),
        (b"name: x\nbaseline: y\narms: {}\n", ":3: arms must be a mapping"),
        (b"name: x\nbaseline: y\narms: {y: 3}\n", ":3: arms.y must be a mapping, not 3"),
        (b"name: x\narms: [\n", ":3: not valid YAML"),
        (b"name: x\n\tarms: 3\n", ":2: not valid YAML"),
        (b"name: 2020-13-45\n", ": not valid YAML: month must be in 1..12"),
        (b"name: \xff\xfe\n", ": not UTF-8 at byte 6; save it as UTF-8"),
        (b"\xff\xfen\x00a\x00", ": not UTF-8 at byte 0"),
        (b"\x00", ": not valid YAML"),
    ],
    ids=repr,
)
def test_a_file_that_is_no_study_is_refused(tmp_path, content, message):
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    assert error(path).startswith(message)


def test_a_missing_file_points_to_the_built_in_studies(tmp_path):
    assert "there is no such study file; `algoprogress studies`" in error(tmp_path / "none.yaml")


def test_a_folder_is_no_study(tmp_path):
    assert "cannot be read" in error(tmp_path)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system ['touch ran']", "!!python/name:os.system"])
def test_a_file_cannot_run_code(write, tmp_path, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    message = error(write(arm(f"tokens: 5120\nlearning_rate: {tag}")))
    assert re.match(r":8: not valid YAML: could not determine a constructor", message)
    assert not os.path.exists("ran")


def test_a_byte_order_mark_is_no_error(tmp_path, write):
    path = write(WHOLE)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path).name == "mine"
