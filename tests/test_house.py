"""The house: imports point one way, client libraries stay in their stores, and the core needs nothing but Python."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import headgate

SOURCE = Path(headgate.__file__).parent

LAYERS = [
    {"errors"},
    {"clock"},
    {"runtime"},
    {"algorithms"},
    {"limits"},
    {"keys"},
    {"hits"},
    {"web.headers", "web.messages"},
    {"decision"},
    {"observer"},
    {"drive"},
    {"plans"},
    {"batching"},
    {"denials"},
    {"lease"},
    {"breaker"},
    {"stores"},
    {"limiter"},
    {"identity"},
    {"rules"},
    {"config"},
    {"web"},
    {"grpc", "clients"},
    {"mcp", "celery"},
    {"fastmcp"},
    {"observe"},
    {"testing"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
"""Lowest first. A module imports from lower layers and from its own package only."""

UPWARDS: dict[tuple[str, str], str] = {
    ("errors", "decision"): "AcquireTimeout and LimitExceeded carry a decision; only a type checker needs its type",
}
"""Imports that point upwards, and why. They run late, or never."""

LIBRARIES: dict[str, set[str]] = {
    "redis": {"stores.redis"},
    "hiredis": {"stores.redis"},
    "valkey": {"stores.redis"},
    "psycopg": {"stores.postgres"},
    "nats": {"stores.nats"},
    "starlette": {"web.starlette", "web.fastapi"},
    "fastapi": {"web.fastapi"},
    "aiohttp": {"web.aiohttp", "web.aiohttp_exchange", "clients.aiohttp"},
    "httpx": {"clients.httpx"},
    "httpx2": {"clients.httpx2"},
    "requests": {"clients.requests"},
    "urllib3": {"clients.requests"},
    "litestar": {"web.litestar"},
    "flask": {"web.flask"},
    "werkzeug": {"web.flask"},
    "click": {"web.flask"},
    "django": {"web.django"},
    "asgiref": {"web.django"},
    "rest_framework": {"web.django"},
    "grpc": {"grpc"},
    "google": {"grpc"},
    "mcp": {"mcp"},
    "anyio": {"mcp"},
    "fastmcp": {"fastmcp"},
    "celery": {"celery"},
    "kombu": {"celery"},
    "prometheus_client": {"observe.prometheus"},
    "opentelemetry": {"observe.opentelemetry"},
    "watchfiles": {"config"},
    "pytest": {"testing"},
    "hypothesis": {"testing"},
}
"""Who may import a client library or a framework: these modules and those below them. For the rest, see `EXTRAS`."""

EXTRAS = {"cli", "demo", "__main__"}
"""These bring libraries of their own, with an extra."""


class Import(NamedTuple):
    """One import of one module."""

    module: str
    """The importing module, without `headgate.`; empty for the face."""
    target: str
    """What is imported, with its whole name."""
    is_late: bool
    """In a function, or for type checkers only."""
    line: int


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imports() -> Iterator[Import]:
    ours = {module for module, _ in modules()}
    for module, path in modules():
        tree = ast.parse(path.read_text("utf-8"))
        late: set[int] = set()
        for node in ast.walk(tree):
            is_for_checkers = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            if is_for_checkers or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                late.update(id(inner) for inner in ast.walk(node))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno} imports relatively"
                assert node.module is not None
                # `from headgate import limits` imports the module, `from headgate.limits import Limit` a name in it.
                longer = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [name if name.removeprefix("headgate.") in ours else node.module for name in longer]
            else:
                continue
            for target in targets:
                yield Import(module, target, id(node) in late, node.lineno)


ALL = list(imports())
LAYER_OF = {package: level for level, packages in enumerate(LAYERS) for package in packages}


def package(module: str) -> str:
    """The room of a module: its package, or a part of one that has a layer of its own."""
    return module if module in LAYER_OF else module.partition(".")[0]


def own(imported: Import) -> str | None:
    """The module of ours that is imported, without `headgate.`"""
    root, _, rest = imported.target.partition(".")
    return rest if root == "headgate" else None


def test_every_module_has_its_layer() -> None:
    unknown = {package(module) for module, _ in modules() if module} - set(LAYER_OF)
    assert not unknown, f"give {', '.join(sorted(unknown))} a place in LAYERS"
    gone = set(LAYER_OF) - {package(module) for module, _ in modules()}
    assert not gone, f"{', '.join(sorted(gone))} is no more: take it out of LAYERS"


def test_imports_point_one_way() -> None:
    wrong = []
    for imported in ALL:
        target = own(imported)
        if target is None or imported.module == "":
            continue
        source, goal = package(imported.module), package(target)
        if source == goal or (goal in LAYER_OF and LAYER_OF[goal] < LAYER_OF[source]):
            continue
        if (imported.module, target) in UPWARDS and imported.is_late:
            continue
        if source in EXTRAS and (target == "" or goal not in LAYER_OF):
            continue  # what stands on top may use the face
        wrong.append(f"{imported.module}:{imported.line} imports {imported.target}")
    assert not wrong, "\n".join(wrong)


def test_every_exception_is_still_needed() -> None:
    used = {(imported.module, own(imported)) for imported in ALL if imported.is_late}
    assert not [pair for pair in UPWARDS if pair not in used]


def test_inside_a_package_imports_go_round_no_circle() -> None:
    edges: dict[str, set[str]] = {}
    for imported in ALL:
        target = own(imported)
        if target is not None and not imported.is_late and package(target) == package(imported.module):
            edges.setdefault(imported.module, set()).add(target)

    def reachable(module: str, seen: set[str]) -> set[str]:
        for target in edges.get(module, set()) - seen:
            seen.add(target)
            reachable(target, seen)
        return seen

    circles = [module for module in edges if module in reachable(module, set())]
    assert not circles


def test_the_face_only_re_exports() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text("utf-8"))
    for node in tree.body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_name = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("__all__", "__version__")
        assert is_docstring or is_name or isinstance(node, ast.ImportFrom), ast.unparse(node)
    assert headgate.__all__ == sorted(headgate.__all__)
    assert all(hasattr(headgate, name) for name in headgate.__all__)
    named = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert named == set(headgate.__all__)


def test_the_version_is_that_of_the_package() -> None:
    assert headgate.__version__ == importlib.metadata.version("headgate")


def test_libraries_are_imported_only_where_they_belong() -> None:
    wrong = []
    for imported in ALL:
        root = imported.target.partition(".")[0]
        if root == "headgate" or root in sys.stdlib_module_names or package(imported.module) in EXTRAS:
            continue
        homes = LIBRARIES.get(root, set())
        if not any(imported.module == home or imported.module.startswith(f"{home}.") for home in homes):
            wrong.append(f"{imported.module}:{imported.line} imports {imported.target}")
    assert not wrong, "\n".join(wrong)


def test_no_private_name_of_another_module_is_imported() -> None:
    wrong = []
    for module, path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                private = [
                    alias.name for alias in node.names if alias.name.startswith("_") and alias.name != "__version__"
                ]
                private += [part for part in node.module.split(".") if part.startswith("_") and part != "__future__"]
                wrong += [f"{module}:{node.lineno} imports {name}" for name in private]
    assert not wrong, "\n".join(wrong)


def test_the_path_of_imports_is_left_alone() -> None:
    wrong = [module for module, path in modules() if "sys.path" in path.read_text("utf-8")]
    assert not wrong


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after a statement, beside those that it always has."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_headgate_imports_nothing_outside_the_standard_library() -> None:
    loaded = loaded_by("import headgate")
    foreign = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"headgate"}
    assert not {name for name in foreign if not name.startswith("_sysconfigdata")}  # Python's own, by its platform
    assert not loaded & {"multiprocessing", "unittest", "http.client", "sqlite3", "argparse"}
    assert not [name for name in loaded if name.startswith(("headgate.cli", "headgate.demo", "headgate.testing"))]


def test_a_limiter_in_memory_needs_no_client_library() -> None:
    assert "redis" not in loaded_by("import headgate; headgate.Limiter('5/s').try_acquire('k')")
    assert "redis" in loaded_by("import headgate; headgate.Limiter('5/s', store='redis://localhost')")


def test_a_missing_client_library_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "import headgate\n"
        "try:\n    headgate.Limiter('5/s', store='redis://localhost')\n"
        "except headgate.MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "redis-py or hiredis is not installed: pip install 'headgate[redis]'\n"


@pytest.mark.parametrize("module", [module for module, _ in modules() if package(module) not in EXTRAS])
def test_each_module_says_what_it_is(module: str) -> None:
    path = SOURCE.joinpath(*module.split("."))
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert "from __future__ import annotations" in text or len(ast.parse(text).body) <= 1 or module == ""


WRITTEN = (".py", ".lua", ".sql")
"""The files that we write."""

RETIRED = re.compile(
    r"\b(riders?|fares?|lone(?! surrogate)|errands?|dialler\w*|dialling|twins?|aboard|elsewhere|travel\w*)\b"
    r"|(?<!round )(?<!round_)\btrips?\b",
    re.IGNORECASE,
)
"""Metaphors that had to be learnt before the code could be read. The glossary has the words of today."""


@pytest.mark.parametrize("path", [path for path in SOURCE.rglob("*.*") if path.suffix in WRITTEN], ids=str)
def test_the_code_speaks_in_the_words_of_its_field(path: Path) -> None:
    text = re.sub(r"round\s+(#\s+)?trip", "round trip", path.read_text("utf-8"))
    assert [found[0] for found in RETIRED.finditer(text)] == []


@pytest.mark.parametrize("module", [module for module, _ in modules()])
def test_docstrings_say_what_a_thing_is_or_does(module: str) -> None:
    """Those of attributes, too; and each by itself, without what stands above it."""
    path = SOURCE.joinpath(*module.split("."))
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")
    said = [
        node.value.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    assert [one for one in said if one.startswith(("What ", "See above"))] == []


def test_no_file_is_too_long_to_read() -> None:
    lines = {path: path.read_text("utf-8").count("\n") for path in SOURCE.rglob("*.*") if path.suffix in WRITTEN}
    assert {path: count for path, count in lines.items() if count > 400} == {}
