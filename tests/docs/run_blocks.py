"""Run the Python of one Markdown page, from top to bottom in one namespace: `python -m tests.docs.run_blocks PAGE`.

- ```` ```python ```` is run. A top-level `await` is fine, as in `python -m asyncio`.
- ```` ```python no-run ```` is only compiled.
- ```` ```python raises=Name ```` has to raise that error.
- ```` ```python pytest ```` is a file of tests, and left to `test_python_blocks.py`.
- ```` ```python peer ```` is another library's, and left to `python -m benchmarks.coming_from`.

Where each `print` of a block has a comment behind it, what is printed has to be what the comments say. Where a block
without such comments prints and a ```` ```text ```` block comes next, it has to be that. `...` stands for anything.
HEADGATE_DOCS_URL takes the place of `redis://localhost:6379/0`, HEADGATE_DOCS_POSTGRES_URL that of
`postgresql://localhost/app`, HEADGATE_DOCS_NATS_URL that of `nats://localhost:4222`, and HEADGATE_DOCS_PREFIX is the
stores' prefix, so that a page meets no data but its own."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import itertools
import os
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

from tests.docs.markdown import Block, blocks

REDIS_URL = "redis://localhost:6379/0"
POSTGRES_URL = "postgresql://localhost/app"
NATS_URL = "nats://localhost:4222"


def run(page: Path, *, is_peer: bool = False, done: Callable[[Block, dict[str, Any]], None] | None = None) -> int:
    """Run a page; returns how many blocks were run.

    :param is_peer: run the blocks of another library, in place of ours.
    :param done: called with each block that was run, and with the names that there are then.
    """
    urls = {
        REDIS_URL: os.environ["HEADGATE_DOCS_URL"],
        POSTGRES_URL: os.environ["HEADGATE_DOCS_POSTGRES_URL"],
        NATS_URL: os.environ["HEADGATE_DOCS_NATS_URL"],
    }
    _use_prefix(os.environ["HEADGATE_DOCS_PREFIX"])
    namespace: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    found = [*blocks(page), Block(0, "", (), "")]
    with asyncio.Runner() as runner:
        for block, following in itertools.pairwise(found):
            if block.language != "python" or "pytest" in block.words or ("peer" in block.words) != is_peer:
                continue
            code = _compile(page, block, urls)
            if "no-run" in block.words:
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), _raising(block):
                if code.co_flags & inspect.CO_COROUTINE:
                    runner.run(_await(code, namespace))
                else:
                    exec(code, namespace)
            expected = _expected(block, following)
            if expected is not None and not _fits(printed.getvalue(), expected):
                raise AssertionError(f"{page}, line {block.line} says\n{expected}\nand prints\n{printed.getvalue()}")
            count += 1
            if done is not None:
                done(block, namespace)
    return count


def _compile(page: Path, block: Block, urls: dict[str, str]) -> CodeType:
    source = "\n" * (block.line - 1) + block.code
    for written, url in urls.items():
        source = source.replace(written, url)
    code: CodeType = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code


async def _await(code: CodeType, namespace: dict[str, Any]) -> None:
    await eval(code, namespace)


@contextlib.contextmanager
def _raising(block: Block) -> Iterator[None]:
    wanted = [word.removeprefix("raises=") for word in block.words if word.startswith("raises=")]
    try:
        yield
    except Exception as error:
        if [type(error).__name__] != wanted:
            raise
    else:
        if wanted:
            raise AssertionError(f"line {block.line}: {wanted[0]} was not raised")


def _expected(block: Block, following: Block) -> str | None:
    prints, said = 0, []
    lines = block.code.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(block.code).readline):
        if token.type == tokenize.NAME and token.string == "print":
            prints += 1
        if token.type == tokenize.COMMENT and "print(" in lines[token.start[0] - 1][: token.start[1]]:
            said.append(token.string.removeprefix("#").strip())
    if said and len(said) == prints:
        return "\n".join(said)
    if prints and not said and following.language == "text":
        return following.code.rstrip("\n")
    return None


def _fits(printed: str, expected: str) -> bool:
    pattern = re.escape(expected).replace(r"\.\.\.", ".*")
    return re.fullmatch(pattern, printed.rstrip("\n")) is not None


def _use_prefix(prefix: str) -> None:
    from headgate.stores.nats import NatsStore
    from headgate.stores.postgres import PostgresStore
    from headgate.stores.redis import RedisStore

    for kind in (RedisStore, PostgresStore, NatsStore):
        defaults = kind.__init__.__kwdefaults__
        assert defaults is not None
        defaults["prefix"] = prefix


if __name__ == "__main__":
    print(run(Path(sys.argv[1])))
