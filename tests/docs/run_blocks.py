"""Run the Python of one Markdown page, from top to bottom in one namespace: `python -m tests.docs.run_blocks PAGE`.

- ```` ```python ```` is run. A top-level `await` is fine, as in `python -m asyncio`.
- ```` ```python no-run ```` is only compiled.
- ```` ```python pytest ```` is a file of tests, and left to `test_python_blocks.py`.

Where each `print` of a block has a comment behind it, what is printed has to be what the comments say; `...` in a
comment stands for anything. HEADGATE_DOCS_URL takes the place of `redis://localhost:6379/0`, and HEADGATE_DOCS_PREFIX
is the stores' prefix, so that a page meets no data but its own."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import sys
import tokenize
from pathlib import Path
from types import CodeType
from typing import Any

from tests.docs.markdown import Block, blocks


def run(page: Path) -> int:
    """Run a page; returns how many blocks were run."""
    url = os.environ["HEADGATE_DOCS_URL"]
    _use_prefix(os.environ["HEADGATE_DOCS_PREFIX"])
    namespace: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    with asyncio.Runner() as runner:
        for block in blocks(page):
            if block.language != "python" or "pytest" in block.words:
                continue
            code = _compile(page, block, url)
            if "no-run" in block.words:
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                if code.co_flags & inspect.CO_COROUTINE:
                    runner.run(_await(code, namespace))
                else:
                    exec(code, namespace)
            _compare(page, block, printed.getvalue())
            count += 1
    return count


def _compile(page: Path, block: Block, url: str) -> CodeType:
    source = "\n" * (block.line - 1) + block.code.replace("redis://localhost:6379/0", url)
    code: CodeType = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code


async def _await(code: CodeType, namespace: dict[str, Any]) -> None:
    await eval(code, namespace)


def _compare(page: Path, block: Block, printed: str) -> None:
    prints, said = 0, []
    lines = block.code.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(block.code).readline):
        if token.type == tokenize.NAME and token.string == "print":
            prints += 1
        if token.type == tokenize.COMMENT and "print(" in lines[token.start[0] - 1][: token.start[1]]:
            said.append(token.string.removeprefix("#").strip())
    if not said or len(said) < prints:
        return
    pattern = "\n".join(re.escape(line).replace(r"\.\.\.", ".*") for line in said)
    if not re.fullmatch(pattern, printed.rstrip("\n")):
        raise AssertionError(f"{page}, line {block.line}: the block says\n{chr(10).join(said)}\nand prints\n{printed}")


def _use_prefix(prefix: str) -> None:
    from headgate.stores.redis import RedisStore

    defaults = RedisStore.__init__.__kwdefaults__
    assert defaults is not None
    defaults["prefix"] = prefix


if __name__ == "__main__":
    print(run(Path(sys.argv[1])))
