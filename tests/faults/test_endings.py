"""A process ends when its code does, with its own exit code, whatever of ours is still open."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.servers import own_valkey

PRELUDE = """
import atexit, contextlib, os, sys, threading, time
import asyncio
from headgate import *
url = sys.argv[1]
"""

OPEN_HOLD = """
stack = contextlib.ExitStack()
stack.enter_context(Limiter("concurrency 5; ttl=60s"{store}).hold("jobs"))
"""

SCRIPTS = {
    "a hold in a global": OPEN_HOLD,
    "a hold in a thread that has ended": """
stack = contextlib.ExitStack()
thread = threading.Thread(target=lambda: stack.enter_context(Limiter("concurrency 5"{store}).hold("jobs")))
thread.start()
thread.join()
""",
    "a hold in a daemon thread at work": """
limiter = Limiter("concurrency 5"{store})
began = threading.Event()
def work():
    with limiter.hold("jobs"):
        began.set()
        time.sleep(600)
threading.Thread(target=work, daemon=True).start()
began.wait()
""",
    "daemon threads that ask": """
limiter = Limiter("1_000_000/s"{store})
def work():
    while True:
        limiter.try_acquire("k")
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
""",
    "a lease": """
limiter = Limiter("1_000_000/s"{store}, lease=True)
for _ in range(100):
    limiter.try_acquire("k")
""",
    "an async hold that nobody leaves": """
async def main():
    limiter = AsyncLimiter("concurrency 5"{store})
    await limiter.hold("jobs").__aenter__()
    await AsyncLimiter("1_000_000/s"{store}, lease=True).try_acquire("k")
asyncio.run(main())
""",
    "an exit handler of somebody else's that asks": """
limiter = Limiter("concurrency 5"{store})
leased = Limiter("1_000_000/s"{store}, lease=True)
@atexit.register
def at_exit():
    with limiter.hold("jobs"):
        for _ in range(50):
            leased.try_acquire("k")
    stack = contextlib.ExitStack()
    stack.enter_context(limiter.hold("jobs"))
    globals()["kept"] = stack
""",
    "a finalizer that asks as modules are torn down": """
limiter = Limiter("concurrency 5"{store})
limiter.peek("jobs")
class Last:
    def __del__(self, limiter=limiter):
        with limiter.hold("jobs"):
            limiter.peek("jobs")
last = Last()
last.itself = last
""",
    "a forked child": OPEN_HOLD
    + """
leased = Limiter("1_000_000/s"{store}, lease=True)
for _ in range(20):
    leased.try_acquire("k")
child = os.fork()
if child == 0:
    with Limiter("concurrency 5"{store}).hold("jobs"):
        leased.try_acquire("k")
        os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
""",
    "a forked child that leaves the block of its parent, whose slot it is": """
limiter = Limiter("concurrency 5"{store})
with limiter.hold("jobs"):
    child = os.fork()
    if child == 0:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert limiter.peek("jobs", 0).remaining == 4
assert limiter.peek("jobs", 0).remaining == 5
""",
    "a forked child that ends as any process does": OPEN_HOLD
    + """
child = os.fork()
if child == 0:
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
""",
}


@pytest.mark.parametrize("where", ["memory", "valkey"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_it_ends_with_its_own_code(name: str, where: str, valkey_url: str, prefix: str) -> None:
    store = "" if where == "memory" else f", store=url, prefix={prefix!r}, timeout=5"
    script = PRELUDE + SCRIPTS[name].replace("{store}", store) + "\nsys.exit(42)\n"
    ended = _run(script, valkey_url)
    assert (ended.returncode, ended.stderr) == (42, "")


def test_where_no_store_answers_leases_do_not_hold_up_the_end() -> None:
    script = """
limiters = [Limiter("1_000_000/s", name=f"n{n}", store=url, timeout=0.25, lease=True) for n in range(40)]
for limiter in limiters:
    for _ in range(3):
        limiter.try_acquire("k")
began = time.monotonic()
atexit.register(lambda: print(time.monotonic() - began, flush=True))
print("drawn", flush=True)
sys.stdin.readline()
sys.exit(42)
"""
    with own_valkey() as server:
        command = [sys.executable, "-c", PRELUDE + script, server.url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "drawn\n"
            server.freeze()
            began = time.monotonic()
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.wait(30) == 42
            assert time.monotonic() - began < 8  # and not 40 deadlines


IN_A_SUBINTERPRETER = """
import sys
sys.path[:] = {path!r}
from headgate import Limiter
limiter = Limiter("concurrency 5; ttl=60s")
hold = limiter.hold("jobs")
hold.__enter__()
assert limiter.peek("jobs", 0).remaining == 4
assert Limiter("5/s").try_acquire("k")
"""

INTERPRETERS = {
    # As mod_wsgi has them. They have daemon threads, and the process is aborted where one of those is left at the end.
    "of old": "import _testcapi\nassert _testcapi.run_in_subinterp(code) == 0",
    # These have no daemon threads.
    "isolated": """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
one = interpreters.create()
failure = interpreters.run_string(one, code)
assert not failure, failure
interpreters.destroy(one)
""",
}
if sys.version_info[:2] == (3, 12):
    del INTERPRETERS["isolated"]  # in which 3.12 cannot import datetime


@pytest.mark.parametrize("kind", INTERPRETERS)
def test_a_subinterpreter_ends(kind: str) -> None:
    code = IN_A_SUBINTERPRETER.format(path=sys.path)
    ended = _run(f"code = {code!r}\n{INTERPRETERS[kind]}\nimport sys\nsys.exit(42)\n", "")
    assert ended.returncode == 42, ended.stderr


def _run(script: str, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, url]
    began = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert time.monotonic() - began < 20
    return ended
