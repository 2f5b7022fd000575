"""Rules about source text: import direction, circles, self-contained publishable files, sizes, unsafe constructs.

Each rule is a function from folders to a list of issues, so that it can be shown to catch an offender.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "meddiffusers"
PIPELINES = ROOT / "pipelines"  # installed as meddiffusers.pipelines
PUBLISHABLE = (PACKAGE / "models", PACKAGE / "schedulers", PIPELINES)
SOURCES = (PACKAGE, PIPELINES, ROOT / "training")

# Each layer imports itself and the ranks that follow, not what stands beside it.
RANKS = (
    ("cli",),
    ("demo",),
    ("training", "convert", "generation"),
    ("hub",),
    ("evaluation",),
    ("datasets",),
    ("data",),
    ("utils",),
)
RANK = {layer: rank for rank, layers in enumerate(RANKS) for layer in layers}
DIRECTION = " → ".join(" | ".join(layers) for layers in RANKS)
PARTS = ("models", "schedulers", "pipelines")
USERS_OF_PARTS = ("cli", "demo", "training", "convert", "generation", "hub", "evaluation", "datasets", *PARTS)
ROOTS = ("", "registration")  # the package itself, and what makes diffusers find its classes
PUBLISHABLE_MAY_IMPORT = sys.stdlib_module_names | {
    "numpy", "scipy", "torch", "diffusers", "transformers", "peft", "PIL", "monai",
}  # fmt: skip
MAX_FILES, MAX_LINES, MAX_MEDIAN = 20, 400, 120  # of a folder beside its subfolders; of a file; of all files
OPTIONAL_MAY_BE = {"meddiffusers", "nibabel"}  # what a publishable file may do without
SHARED = re.compile(r"meddiffusers_[a-z_]+_v\d+")  # shared files, which publishable ones import from beside them

Check = Callable[..., list[str]]


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(tree: ast.AST, package: str = "") -> Iterator[tuple[int, str]]:
    """(line, dotted name) of all that is imported at any depth; without `package` relative names keep their dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            source = resolve_name(source, package) if package and node.level else source
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def modules_of(package: Path, pipelines: Path | None) -> dict[str, Path]:
    """Files by the dotted names of their modules; `pipelines` is a subpackage whose folder lies elsewhere."""
    files = {path.relative_to(package.parent): path for path in package.rglob("*.py")}
    if pipelines:
        files |= {Path(package.name, "pipelines", path.name): path for path in pipelines.glob("*.py")}
    return {".".join(name.with_suffix("").parts).removesuffix(".__init__"): path for name, path in files.items()}


def inner_imports(package: Path, pipelines: Path | None = None) -> Iterator[tuple[str, str, str]]:
    """(importing module, imported module, place) of every import of a package within itself, at any depth.

    Optional imports in publishable files are left out.
    """
    modules = modules_of(package, pipelines)
    known = {*modules, f"{package.name}.pipelines"}
    for module, path in sorted(modules.items()):
        parent = module if path.name == "__init__.py" else module.rpartition(".")[0]
        tree = parse(path)
        optional = optional_imports(tree) if layer(module) in PARTS else set()
        for line, target in imports(tree, parent):
            if (line, target) in optional:
                continue
            while target and target not in known:  # `from a.b import f` names a.b
                target = target.rpartition(".")[0]
            if target:
                yield module, target, f"{'/'.join(path.parts[-2:])}:{line}"


def layer(module: str) -> str:
    """The part of the package that holds a module; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def direction_issues(package: Path, pipelines: Path | None = None) -> list[str]:
    """Imports against the direction of `RANKS`."""

    def may_import(user: str, used: str) -> bool:
        if user in ROOTS:
            return True
        if used in PARTS:
            return user in USERS_OF_PARTS
        return user in RANK and used in RANK and (user == used or RANK[user] < RANK[used])

    return [
        f"{place}: {layer(module) or 'the package'} may not import {target}; the direction is {DIRECTION}"
        for module, target, place in inner_imports(package, pipelines)
        if not may_import(layer(module), layer(target))
    ]


def circle_issues(package: Path, pipelines: Path | None = None) -> list[str]:
    """Modules that import one another in a circle."""
    graph: dict[str, set[str]] = {}
    for module, target, _ in inner_imports(package, pipelines):
        graph.setdefault(module, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return ["circle of imports: " + " → ".join(reversed(error.args[1]))]
    return []


def publishable_files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.glob("*.py") if path.name != "__init__.py")


def self_containment_issues(*folders: Path) -> list[str]:
    """Imports that a file cannot make where it is downloaded to, and does not say so where they fail.

    It may import files beside it that carry their published name here already, and so are found in both places.
    """
    issues = []
    for path in publishable_files(*folders):
        tree = parse(path)
        optional = optional_imports(tree)
        beside = {f".{other.stem}" for other in path.parent.glob("*.py") if SHARED.fullmatch(other.stem)}
        for line, name in imports(tree):
            allowed = name.partition(".")[0] in PUBLISHABLE_MAY_IMPORT or name.rpartition(".")[0] in beside
            if not allowed and (line, name) not in optional:
                issues.append(f"{path.name}:{line}: a publishable file may not import {name}")
    return issues


def optional_imports(tree: ast.Module) -> set[tuple[int, str]]:
    """Imports of `OPTIONAL_MAY_BE` within a function that answers an ImportError with one of its own."""
    return {
        (line, name)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for attempt in ast.walk(function)
        if isinstance(attempt, ast.Try)
        and [handler.type and ast.unparse(handler.type) for handler in attempt.handlers] == ["ImportError"]
        for part in attempt.body
        for line, name in imports(part)
        if name.partition(".")[0] in OPTIONAL_MAY_BE and isinstance(attempt.handlers[0].body[-1], ast.Raise)
    }


def published_name(tree: ast.Module) -> str:
    """The constant PUBLISHED_AS; empty if there is none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PUBLISHED_AS":
            return ast.literal_eval(node.value)
    return ""


def naming_issues(*folders: Path) -> list[str]:
    """Published names that are missing, wrongly formed or used twice, and public classes without a docstring."""
    issues: list[str] = []
    owners: dict[str, Path] = {}
    for path in publishable_files(*folders):
        tree = parse(path)
        name = published_name(tree)
        if SHARED.fullmatch(path.stem):
            issues += [] if name == path.stem else [f"{path.name}: expected PUBLISHED_AS = {path.stem!r}, got {name!r}"]
            continue
        if not re.fullmatch(rf"meddiffusers_{path.stem}_v\d+", name) or not (name.islower() and name.isidentifier()):
            issues.append(f'{path.name}: expected PUBLISHED_AS = "meddiffusers_{path.stem}_v<number>", got {name!r}')
        if name and owners.setdefault(name, path) != path:
            issues.append(f"{path}: {name!r} is also the name of {owners[name]}")
        public = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
        issues += [] if public else [f"{path.name}: no public class"]
        issues += [f"{path.name}: class {node.name} has no docstring" for node in public if not ast.get_docstring(node)]
    return issues


def size_issues(*folders: Path) -> list[str]:
    """Folders with too many files, files with too many lines, and a median that is too large.

    Files that pipelines import from beside them do not count: diffusers finds them nowhere but there.
    """
    issues, lengths = [], []
    for folder in folders:
        paths = sorted(folder.rglob("*.py"))
        counts = Counter(path.parent for path in paths if not SHARED.fullmatch(path.stem))
        issues += [
            f"{place.relative_to(folder.parent)}: {count} files; expected {MAX_FILES} or fewer, sort them into folders"
            for place, count in counts.items()
            if count > MAX_FILES
        ]
        for path in paths:
            lengths.append(len(path.read_text(encoding="utf-8").splitlines()))
            if lengths[-1] > MAX_LINES:
                issues.append(f"{path.relative_to(folder.parent)}: {lengths[-1]} lines; expected {MAX_LINES} or fewer")
    if lengths and median(lengths) > MAX_MEDIAN:
        issues.append(f"half of the files have {median(lengths)} lines or more; expected {MAX_MEDIAN}")
    return issues


def unsafe(node: ast.AST) -> str | None:
    """What is wrong with a construct, if anything."""
    if isinstance(node, ast.Assert):
        return "assert vanishes under -O: raise an exception that says what was got and expected"
    if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant) and node.value.value is True:
        return f"{node.arg}=True runs foreign code" if node.arg in ("trust_remote_code", "allow_pickle") else None
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
        safe = any(ast.unparse(keyword) == "weights_only=True" for keyword in node.keywords)
        return None if safe else "torch.load without weights_only=True"
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = {name for _, name in imports(node)}
        if any(name.partition(".")[0] in ("pickle", "dill", "cloudpickle") for name in names):
            return "pickle runs foreign code: use safetensors or JSON"
        return "call torch.load by its full name" if "torch.load" in names else None
    return None


def safety_issues(*folders: Path) -> list[str]:
    """Assertions as error handling, remote code, pickles."""
    return [
        f"{path.relative_to(folder)}:{getattr(node, 'lineno', '?')}: {issue}"
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
        for node in ast.walk(parse(path))
        if (issue := unsafe(node))
    ]


RULES: list[tuple[Check, tuple[Path, ...]]] = [
    (direction_issues, (PACKAGE, PIPELINES)),
    (circle_issues, (PACKAGE, PIPELINES)),
    (self_containment_issues, PUBLISHABLE),
    (naming_issues, PUBLISHABLE),
    (safety_issues, SOURCES),
    (size_issues, SOURCES),
]


@pytest.mark.parametrize(("check", "folders"), RULES)
@pytest.mark.slow
def test_the_package_keeps_its_rules(check: Check, folders: tuple[Path, ...]) -> None:
    assert check(*folders) == []


@pytest.mark.slow
def test_there_is_something_to_check() -> None:
    places = [(layer(module), layer(target)) for module, target, _ in inner_imports(PACKAGE, PIPELINES)]
    assert len(places) > 10
    assert {("datasets", "data"), ("datasets", "pipelines"), ("pipelines", "pipelines")} <= set(places)
    assert {path.name for path in publishable_files(*PUBLISHABLE)} >= {"attribute_vae.py", "attribute_vae_pipeline.py"}


def test_a_publishable_file_may_use_the_package_where_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "vae.py").write_text(OPTIONAL.format("raise ImportError('Install it.') from error"))
    assert self_containment_issues(tmp_path) == []


def test_it_may_use_a_file_that_is_published_beside_it(tmp_path: Path) -> None:
    files = {"a.py": "from .meddiffusers_b_v1 import f", "meddiffusers_b_v1.py": 'PUBLISHED_AS = "meddiffusers_b_v1"'}
    assert self_containment_issues(written(tmp_path, files)) == []
    (tmp_path / "a.py").unlink()
    assert naming_issues(tmp_path) == []


PUBLISHED = 'PUBLISHED_AS = "meddiffusers_vae_v1"\nclass VAE:\n    """A model."""\n'

OPTIONAL = (
    "def f():\n    try:\n        from meddiffusers.utils.types import A\n    except ImportError as error:\n        {}"
)

OFFENDERS: list[tuple[Check, dict[str, str], str]] = [
    (direction_issues, {"data/io.py": "from meddiffusers.hub import load"}, "data may not import meddiffusers"),
    (direction_issues, {"hub/load.py": "from ..training.engine import Engine", "training/engine.py": ""}, "load.py:1"),
    (direction_issues, {"training/a.py": "from ..convert import b", "convert/b.py": ""}, "training may not import"),
    (direction_issues, {"convert/b.py": "from ..training import a", "training/a.py": ""}, "convert may not import"),
    (direction_issues, {"hub/load.py": "from ..convert import b", "convert/b.py": ""}, "hub may not import"),
    (direction_issues, {"data/io.py": "def f():\n    import meddiffusers.models.vae", "models/vae.py": ""}, "io.py:2"),
    (direction_issues, {"data/a.py": "from ..pipelines.b import f", "pipelines/b.py": ""}, "data may not import"),
    (direction_issues, {"pipelines/b.py": "from ..data.a import f", "data/a.py": ""}, "pipelines may not import"),
    (direction_issues, {"utils/types.py": "from .data import io", "data/io.py": ""}, "utils may not import"),
    (direction_issues, {"hub/load.py": "from meddiffusers import VERSION"}, "hub may not import meddiffusers;"),
    (
        direction_issues,
        {"models/vae.py": "from meddiffusers.utils.types import Image", "utils/types.py": ""},
        "models may not",
    ),
    (
        direction_issues,
        {"attic.py": "from meddiffusers.utils.types import Image", "utils/types.py": ""},
        "attic may not import",
    ),
    (circle_issues, {"data/a.py": "from .b import f", "data/b.py": "from . import a"}, "a → meddiffusers.data.b"),
    (circle_issues, {"data/a.py": "from . import f", "data/__init__.py": "from .a import f"}, "circle of imports"),
    (
        circle_issues,
        {
            "datasets/a.py": "from ..pipelines.b import f",
            "pipelines/b.py": "def f():\n    from meddiffusers.data.c import g",
            "data/c.py": "def g():\n    from ..datasets.a import h",
        },
        "circle of imports: meddiffusers.",
    ),
    (size_issues, {"data/a.py": "x = 1\n" * 401}, "meddiffusers/data/a.py: 401 lines; expected 400 or fewer"),
    (size_issues, {f"hub/{i}.py": "" for i in range(21)}, "meddiffusers/hub: 21 files; expected 20 or fewer"),
    (size_issues, {f"data/{i}.py": "x = 1\n" * 121 for i in range(9)}, "half of the files have 121 lines or more"),
    (self_containment_issues, {"vae.py": "import skimage.draw"}, "may not import skimage.draw"),
    (self_containment_issues, {"vae.py": "from .blocks import Block"}, "may not import .blocks.Block"),
    (self_containment_issues, {"a.py": "from .meddiffusers_b_v1 import f"}, "may not import .meddiffusers_b_v1.f"),
    (self_containment_issues, {"a.py": "from .b_v1 import f", "b_v1.py": ""}, "may not import .b_v1.f"),
    (
        self_containment_issues,
        {"vae.py": "def f():\n    from meddiffusers.utils.types import A"},
        "vae.py:2: a publishable",
    ),
    (self_containment_issues, {"vae.py": OPTIONAL.format("pass")}, "vae.py:3: a publishable"),
    (self_containment_issues, {"vae.py": "try:\n    import meddiffusers\nexcept ImportError:\n    raise"}, "vae.py:2"),
    (naming_issues, {"vae.py": 'class VAE:\n    """A model."""'}, "got ''"),
    (naming_issues, {"gan.py": PUBLISHED}, 'expected PUBLISHED_AS = "meddiffusers_gan_v<number>"'),
    (naming_issues, {"vae.py": PUBLISHED.replace("_v1", "")}, "got 'meddiffusers_vae'"),
    (naming_issues, {"vae.py": PUBLISHED + "class Output:\n    x: int"}, "class Output has no docstring"),
    (naming_issues, {"meddiffusers_b_v1.py": 'PUBLISHED_AS = "b"'}, "expected PUBLISHED_AS = 'meddiffusers_b_v1'"),
    (naming_issues, {"vae.py": 'PUBLISHED_AS = "meddiffusers_vae_v1"'}, "no public class"),
    (safety_issues, {"a.py": "def f(x):\n    assert x > 0"}, "a.py:2: assert"),
    (safety_issues, {"a.py": "load(repo, trust_remote_code=True)"}, "trust_remote_code=True runs"),
    (safety_issues, {"a.py": "np.load(path, allow_pickle=True)"}, "allow_pickle=True runs"),
    (safety_issues, {"a.py": "def f():\n    import pickle"}, "a.py:2: pickle"),
    (safety_issues, {"a.py": "from pickle import loads"}, "pickle"),
    (safety_issues, {"deep/a.py": "import torch\ntorch.load(path)"}, "deep/a.py:2: torch.load without"),
    (safety_issues, {"a.py": "torch.load(path, weights_only=False)"}, "torch.load without"),
    (safety_issues, {"a.py": "from torch import load"}, "by its full name"),
]


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(("check", "files", "message"), OFFENDERS)
def test_an_offender_is_caught(check: Check, files: dict[str, str], message: str, tmp_path: Path) -> None:
    issues = check(written(tmp_path / "meddiffusers", {"__init__.py": "", "data/__init__.py": "", **files}))
    assert len(issues) == 1, issues
    assert message in issues[0]


def test_one_published_name_for_two_files_is_caught(tmp_path: Path) -> None:
    models, pipelines = (written(tmp_path / name, {"vae.py": PUBLISHED}) for name in ("models", "pipelines"))
    assert naming_issues(models) == []
    (issue,) = naming_issues(models, pipelines)
    assert issue == f"{pipelines / 'vae.py'}: 'meddiffusers_vae_v1' is also the name of {models / 'vae.py'}"


def test_what_only_looks_like_an_offence_passes(tmp_path: Path) -> None:
    package = written(
        tmp_path / "meddiffusers",
        {
            "__init__.py": "from meddiffusers.hub.load import load",
            "hub/load.py": "from ..models.vae import VAE\nfrom .card import Card\nfrom meddiffusers.pipelines import p",
            "pipelines/p.py": OPTIONAL.format("raise"),
            "hub/card.py": "TEXT = 'load(repo, trust_remote_code=True)'  # assert, pickle",
            "models/vae.py": PUBLISHED + "import torch\nimport numpy as np\ntorch.load(path, weights_only=True)",
        },
    )
    assert direction_issues(package) + circle_issues(package) + safety_issues(package) == []
    assert self_containment_issues(package / "models") + naming_issues(package / "models") == []
