"""Reading a store, a study or a checkpoint runs no code, and nothing in them leads out of the store's folder."""

import ast
import json
import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from algoprogress.results import CorruptRun, Store

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path for room in ("ablations", "analysis", "pipeline", "results") for path in (ROOT / room).rglob("*.py")
)

# what turns bytes into code, by the name under which it is imported or called
MODULES_THAT_RUN_WHAT_THEY_READ = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
CALLS_THAT_RUN_WHAT_THEY_READ = {
    "eval", "exec", "compile", "torch.load", "torch.save", "torch.jit.load", "yaml.load", "yaml.load_all",
    "yaml.full_load", "yaml.unsafe_load", "pd.read_pickle", "pandas.read_pickle", "np.fromregex", "os.system",
    "subprocess.getoutput",
}  # fmt: skip


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def dotted(node: ast.expr) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ".".join(reversed(parts))


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_no_module_reads_what_can_run_code(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not {name.split(".")[0] for name in names} & MODULES_THAT_RUN_WHAT_THEY_READ, f"line {node.lineno}"
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            assert called not in CALLS_THAT_RUN_WHAT_THEY_READ, f"line {node.lineno}: {called}"
            for keyword in node.keywords:
                unsafe = (keyword.arg, getattr(keyword.value, "value", None))
                assert unsafe not in {("allow_pickle", True), ("shell", True), ("weights_only", False)}, (
                    f"line {node.lineno}: {called}"
                )


class Bomb:
    """What a pickle would do: make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def bomb(tmp_path):
    """The bytes of a pickle that goes off, and the file that tells that it has."""
    sign = tmp_path / "gone off"
    data = pickle.dumps(Bomb(sign))
    pickle.loads(data)
    assert sign.exists(), "it works"
    sign.unlink()
    yield data
    assert not sign.exists(), "a file of the store was executed"


RUN = "ab" * 10
FILES = [
    f"runs/{RUN}.parquet",
    "studies/evil.json",
    f"failures/{RUN}/1.json",
    f"active/{RUN}.1.json",
    "submits/evil.json",
    "index/records.parquet",
    "index/curves.parquet",
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore::algoprogress.results.CorruptRun")
def test_a_pickle_in_the_place_of_a_file_of_the_store_is_data_that_makes_no_sense(tmp_path, make_run, bomb, name):
    store = Store(tmp_path / "store")
    store.publish(*make_run())
    path = Path(store.url, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bomb)
    assert len(store.runs(status=None)) == len(store.curves()["run_id"].unique()) == 1
    store.active(), store.submits(), store.failures(), store.verify(), store.clean(), store.compact()


def test_an_extension_type_with_a_pickle_in_it_is_not_unpickled(tmp_path, make_run, bomb):
    """Arrow once restored Python extension types by unpickling what stands in the file's metadata."""
    store = Store(tmp_path / "store")
    field = pa.field(
        "step",
        pa.int64(),
        metadata={"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": bomb},
    )
    path = Path(store.url, "runs", f"{RUN}.parquet")
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table([pa.array([1])], schema=pa.schema([field])), path)
    with pytest.warns(CorruptRun):
        assert store.runs().empty
    with pytest.warns(CorruptRun):
        assert store.curves().empty


def test_a_checkpoint_that_is_a_pickle_is_not_read(tmp_path, bomb):
    import torch
    from torch import nn

    from algoprogress.pipeline import checkpoint

    path = tmp_path / "evil.safetensors"
    path.write_bytes(bomb)
    model = nn.Linear(2, 2)
    with pytest.raises((ValueError, KeyError)):
        checkpoint.read(path, model, torch.optim.SGD(model.parameters(), lr=1.0), torch.device("cpu"))


def test_yaml_that_asks_for_a_python_object_is_refused(tmp_path):
    from algoprogress.ablations.study_file import StudyFileError, load

    sign = tmp_path / "gone off"
    path = tmp_path / "evil.yaml"
    path.write_text(f"name: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{sign}']]\n")
    with pytest.raises(StudyFileError, match=r"evil.yaml:1: not valid YAML"):
        load(path)
    assert not sign.exists()


NAMES = [
    "../outside",
    "..",
    "/absolute",
    "a/b",
    "a\\b",
    "~root",
    "nul\0",
    "two\nlines",
    ".hidden",
    "x" * 101,
    "%2e%2e%2fx",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_in_a_stored_study_leads_out_of_the_store(tmp_path, name):
    store = Store(tmp_path / "store")
    for study in ({"name": name, "arms": {}}, {"name": "ok", "arms": {"a": [{"run_id": name}]}}):
        with pytest.raises(ValueError, match=r"rename it|can not be stored"):
            store.save_study(study)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", NAMES)
def test_no_name_in_a_study_file_leads_out_of_the_store(tmp_path, name):
    from algoprogress.ablations.study_file import load

    path = tmp_path / "study.yaml"
    path.write_text(
        f"name: {json.dumps(name)}\nbaseline: a\narms: {{a: {{architecture: {{name: lstm}}, tokens: 128}}}}\n"
    )
    with pytest.raises(ValueError, match="name"):
        load(path)


def test_a_stored_study_that_lies_about_its_runs_is_not_used(tmp_path):
    store = Store(tmp_path / "store")
    folder = Path(store.url, "studies")
    folder.mkdir(parents=True)
    for name, body in {
        "other": {"name": "../../other", "arms": {}, "schema_version": 1},
        "paths": {"name": "paths", "arms": {"a": [{"run_id": "../../../x"}]}, "schema_version": 1},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(body))
    with pytest.warns(CorruptRun):
        assert store.runs().empty


def test_no_secret_of_the_environment_is_in_a_store(tmp_path, monkeypatch, make_run, s3_url):
    """A failure whose message, traceback and log hold secrets, stored as a worker stores it."""
    from algoprogress.pipeline.worker import Task, work

    monkeypatch.setenv("HF_TOKEN", "hf-secret-value-1234")
    store = Store(tmp_path / "store")
    task = Task(RUN, {"architecture": "hf-secret-value-1234", "url": "https://ann:swordfish@host/"}, store.url)
    outcome = work(task.plain())
    assert outcome["status"] == "failed"
    kept = b"".join(path.read_bytes() for path in Path(store.url).rglob("*") if path.is_file())
    assert b"[redacted]" in kept
    for secret in ("hf-secret-value-1234", "swordfish", os.environ["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in json.dumps(outcome)
        assert secret.encode() not in kept
