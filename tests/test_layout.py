"""The four rooms: arrows between them point one way, every package is installed, and the light things stay light."""

import ast
import doctest
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# room -> the rooms that it may import besides itself
ARROWS: dict[str, set[str]] = {
    "ablations": set(),
    "results": set(),
    "analysis": {"results"},
    "pipeline": {"ablations", "analysis", "results"},
}
MODULES = sorted(path for room in ARROWS for path in (ROOT / room).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
HELP_SECONDS = 0.5  # of CPU, for a command line that does nothing


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("algoprogress", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(absolute name, level) of everything that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((name.name, 0) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module or ''}.{name.name}".lstrip("."), node.level) for name in node.names)


def python(code: str, *arguments: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def text_files() -> list[Path]:
    """Files that git knows or would add."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()]


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_arrows_between_rooms_point_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[1] for name, _ in imports(path) if name.startswith("algoprogress.")}
    assert ours & ARROWS.keys() <= ARROWS[room] | {room}


@pytest.mark.parametrize("path", MODULES + TESTS, ids=label)
def test_imports_are_absolute_and_by_the_installed_name(path):
    for name, level in imports(path):
        assert level == 0, f"a relative import of {name}"
        assert name.split(".")[0] not in ARROWS, f"`{name}` is whatever folder of that name comes first on the path"
        assert name != "algoprogress", "algoprogress is a namespace: import a room of it"


def test_every_package_is_listed_for_installation():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert sorted(setuptools["packages"]) == sorted({module_name(p) for p in MODULES if p.name == "__init__.py"})
    assert setuptools["package-dir"] == {f"algoprogress.{room}": room for room in ARROWS}


def test_every_folder_with_modules_is_a_package():
    assert all((path.parent / "__init__.py").exists() for path in MODULES)
    assert not (ROOT / "__init__.py").exists(), "algoprogress is a namespace"


def test_every_other_file_of_a_package_is_listed_for_installation():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for path in text_files():
        room = path.relative_to(ROOT).parts[0]
        published = any(
            path.is_relative_to(ROOT / "results" / name) for name in ("published", "curvature")
        )  # runs alone
        if room in ARROWS and path.suffix != ".py" and not published:
            patterns = data.get(module_name(path.parent / "__init__.py"), [])
            assert any(path.match(pattern) for pattern in patterns), label(path)


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__init__.py"], ids=label)
def test_a_module_opens_with_what_it_is_for(path):
    assert (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").strip()


@pytest.mark.parametrize("path", MODULES + TESTS, ids=label)
def test_a_file_is_one_idea(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 400


HEAVY = "[m for m in ('torch', 'ray', 'tokenizers') if m in sys.modules]"


@pytest.mark.parametrize("name", ["algoprogress.results", "algoprogress.analysis", "algoprogress.pipeline.cli"])
def test_reading_a_table_needs_neither_torch_nor_ray(name):
    assert python(f"import sys, {name}; print({HEAVY})").strip() == "[]"


@pytest.fixture
def store(tmp_path, make_run) -> Path:
    """A store with one study of two runs."""
    from algoprogress.results import Store

    there = Store(tmp_path / "store")
    arms: dict[str, list[dict]] = {}
    for arm in ("lstm", "transformer"):
        record, curve = make_run(architecture=arm)
        there.publish(record, curve)
        arms[arm] = [{"run_id": record["run_id"], "compute_budget": None}]
    there.save_study({"name": "seen", "question": "?", "baseline": "lstm", "arms": arms, "differences": {}})
    return tmp_path / "store"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["status"], ["status", "seen"], ["runs", "seen"], ["submit", "--help"]]
)
def test_looking_loads_neither_torch_nor_ray(store, arguments):
    code = f"""
import sys
sys.argv = ["algoprogress", *sys.argv[1:]]
from algoprogress.pipeline.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print({HEAVY})
"""
    printed = python(code, *arguments, ALGOPROGRESS_STORE=str(store))
    assert printed.strip().splitlines()[-1] == "[]"
    assert "transformer" in printed or "seen" not in arguments


def test_help_is_there_at_once():
    def seconds() -> float:
        child = subprocess.Popen(
            [sys.executable, "-c", "from algoprogress.pipeline.cli import main; main()", "--help"],
            stdout=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        return used.ru_utime + used.ru_stime

    # CPU time of the child alone; the least of three, since a busy machine makes the others longer
    assert min(seconds() for _ in range(3)) < HELP_SECONDS


@pytest.mark.parametrize("path", [p for p in MODULES if ">>> " in p.read_text(encoding="utf-8")], ids=label)
def test_examples_in_the_documentation_are_true(path):
    failed, tried = doctest.testmod(importlib.import_module(module_name(path)), optionflags=doctest.ELLIPSIS)
    assert tried > 0
    assert failed == 0


def test_the_installed_package_is_this_checkout():
    from algoprogress.results import store

    assert Path(store.__file__).resolve() == (ROOT / "results" / "store.py").resolve()


def test_no_file_knows_the_machine_it_was_written_on():
    places = re.compile(r"(?<![\w.~}])/(?:home|Users|root|tmp|var/folders)/[\w.-]|[A-Z]:\\Users")
    for path in text_files():
        text = path.read_text(encoding="utf-8")
        assert not (found := places.search(text)), f"{label(path)} holds {found and found.group()!r}"
        assert str(ROOT) not in text, f"{label(path)} holds the place of its checkout"


def test_the_files_that_the_readme_shows_or_links_to_exist():
    text = (ROOT / "README.md").read_text()
    linked = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert len(linked) > 5
    assert [target for target in linked if not (ROOT / target).exists()] == []
    assert "@@" not in text
