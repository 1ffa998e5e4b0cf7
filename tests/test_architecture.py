"""What the project promises about its own shape: imports point down, heavy dependencies have one home."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import errors

ROOT = Path(__file__).parents[1] / "pipeline"
MODULES = sorted(ROOT.rglob("*.py"))

# A module may import modules of its own layer's row or of rows below it.
LAYERS = [
    ["pipeline.jobs"],
    ["pipeline.stages", "pipeline.trainers", "pipeline.exports", "pipeline.storage"],
    ["pipeline.tokenizer"],
    ["pipeline.superwords", "pipeline.morph", "pipeline.pool", "pipeline.turkish_tokenizer"],
    ["pipeline.encoding", "pipeline.morphology"],
    ["pipeline.spec", "pipeline.language"],
    ["pipeline.tokenizer_spec"],
    ["pipeline.added", "pipeline.terms"],
    ["pipeline.pretokenizer", "pipeline.normalizer", "pipeline.languages"],
    ["pipeline.arrow", "pipeline.regex", "pipeline.byte_level"],
    ["pipeline.regex_syntax", "pipeline.boundaries", "pipeline.tsv"],
    ["pipeline.errors", "pipeline.schema", "pipeline.unicode", "pipeline.checks", "pipeline.kernels"],
]
# What of its own row a module may use: jobs and stages are made of several files, one trainer gives what another gives, the
# others stand alone.
SAME_ROW = {
    "pipeline.jobs": ["pipeline.jobs"],
    "pipeline.stages": ["pipeline.stages"],
    "pipeline.trainers": ["pipeline.trainers"],
    "pipeline.kernels": ["pipeline.kernels"],
}

HOMES = {
    "ray": ["pipeline/jobs/ray_runner.py", "pipeline/jobs/ray_training.py", "pipeline/jobs/submit.py"],
    "aiohttp": ["pipeline/jobs/submit.py"],
    "numba": ["pipeline/kernels/_jit.py", "pipeline/kernels/_llvm.py"],
    "llvmlite": ["pipeline/kernels/_llvm.py"],
    "fsspec": ["pipeline/storage.py"],
    "s3fs": ["pipeline/storage.py"],
    "pydantic": ["pipeline/jobs/load.py"],
    "argparse": ["pipeline/jobs/cli.py"],
    "matplotlib": ["pipeline/jobs/report.py"],
    "polars": ["pipeline/stages/count.py"],
    "morfessor": ["pipeline/trainers/morfessor.py"],
    "random": ["pipeline/trainers/morfessor.py"],
    "scipy": ["pipeline/stages/mixture.py"],
    "pickle": [],
}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)


def _imports(path: Path) -> set[str]:
    """Every module a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found.add(node.module)
            if node.module == "pipeline":
                found |= {f"pipeline.{alias.name}" for alias in node.names}
    return found


def _place(module: str) -> tuple[int, str]:
    """Row and entry of a module in LAYERS."""
    for row, entries in enumerate(LAYERS):
        for entry in entries:
            if module == entry or module.startswith(entry + "."):
                return row, entry
    raise AssertionError(f"{module} has no place in LAYERS")


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__init__.py"], ids=_name)
def test_imports_point_down(path: Path) -> None:
    row, entry = _place(_name(path))
    for imported in _imports(path):
        if not imported.startswith("pipeline.") or imported == "pipeline.__version__":
            continue
        other_row, other_entry = _place(imported)
        if other_row == row:
            assert other_entry in SAME_ROW.get(entry, []), f"{_name(path)} imports its neighbour {imported}"
        else:
            assert other_row > row, f"{_name(path)} imports {imported}, which is above it"


@pytest.mark.parametrize("package", HOMES)
def test_a_heavy_dependency_has_one_home(package: str) -> None:
    users = [
        str(path.relative_to(ROOT.parent))
        for path in MODULES
        if any(name == package or name.startswith(package + ".") for name in _imports(path))
    ]
    assert set(users) <= set(HOMES[package])


# Files of this machine that are not data of the job: the scratch space of a task, the cache of machine code.
LOCAL_FILES = {"stages/scratch.py", "kernels/_jit.py"}


@pytest.mark.parametrize("module", ["clock", "paths"])
def test_stages_and_trainers_know_no_clock_and_no_path(module: str) -> None:
    forbidden = {"clock": {"time", "datetime"}, "paths": {"os", "pathlib", "pipeline.storage"}}[module]
    for path in [*ROOT.glob("stages/*.py"), *ROOT.glob("trainers/*.py"), *ROOT.glob("kernels/*.py")]:
        allowed = {"pathlib"} if str(path.relative_to(ROOT)) in LOCAL_FILES else set()
        assert not _imports(path) & (forbidden - allowed), path


def test_there_is_no_drawer_for_leftovers() -> None:
    assert not [path for path in MODULES if path.stem in ("utils", "util", "helpers", "misc", "common")]


def test_local_jobs_do_not_import_ray() -> None:
    code = (
        "import sys; import pipeline.jobs.cli, pipeline.jobs.run, pipeline.jobs.load, pipeline.tokenizer;"
        "print('ray' in sys.modules, 's3fs' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("kind", [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)])
def test_errors_survive_the_way_between_processes(kind: type[Exception]) -> None:
    error = pickle.loads(pickle.dumps(kind("message")))
    assert type(error) is kind
    assert str(error) == "message"
