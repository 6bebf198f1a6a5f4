"""A file that changes takes effect, however it changes; one that is wrong does not, and is told of once."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate import (
    Config,
    ConfigError,
    InvalidUse,
    ManualClock,
    MemoryStore,
    configure,
    configure_limiter,
    configure_store,
    get_limiter,
    parse_limit,
)
from headgate.config import close
from headgate.config.process import configured_watch
from headgate.config.watching import Watch

PATIENCE_S = 30


def limiter(numbers: int) -> str:
    return f'[limiters.api]\nlimit = "{numbers}/minute"\n'


def changed(watch: Watch) -> bool:
    """Look twice, as the thread does with a content that is new."""
    return watch.check() or watch.check()


class Applied:
    """Keeps what was applied, and says when something was."""

    def __init__(self) -> None:
        self.limits: list[str] = []
        self.coming = threading.Event()

    def __call__(self, config: Config) -> None:
        self.limits.append(str(config.limiters["api"].limits))
        self.coming.set()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "headgate.toml"
    made.write_text(limiter(1), "utf-8")
    return made


@pytest.fixture
def applied() -> Applied:
    return Applied()


@pytest.fixture
def watch(file: Path, applied: Applied) -> Iterator[Watch]:
    made = Watch(file, applied)
    yield made
    made.close()


def in_place(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")


def by_renaming(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text, "utf-8")
    new.replace(file)


def by_moving_away(file: Path, text: str) -> None:
    file.rename(file.with_suffix(".bak"))
    file.write_text(text, "utf-8")


def in_no_time(file: Path, text: str) -> None:
    """Of the same length, and with the times of before."""
    before = file.stat()
    file.write_text(text, "utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [in_place, by_renaming, by_moving_away, in_no_time])
def test_a_change_takes_effect(file: Path, watch: Watch, applied: Applied, change: Callable[[Path, str], None]) -> None:
    assert not changed(watch)
    change(file, limiter(2))
    assert changed(watch)
    assert applied.limits == ["2/minute"]
    assert str(watch.config.limiters["api"].limits) == "2/minute"
    assert not changed(watch)


def test_a_folder_behind_a_link_may_be_swapped(tmp_path: Path, applied: Applied) -> None:
    """As Kubernetes does with a ConfigMap."""
    for version in (1, 2):
        folder = tmp_path / f"..{version}"
        folder.mkdir()
        (folder / "headgate.toml").write_text(limiter(version), "utf-8")
    data = tmp_path / "..data"
    data.symlink_to("..1")
    file = tmp_path / "headgate.toml"
    file.symlink_to("..data/headgate.toml")
    watch = Watch(file, applied)
    swap = tmp_path / "..data_tmp"
    swap.symlink_to("..2")
    swap.replace(data)
    assert changed(watch)
    assert applied.limits == ["2/minute"]


@pytest.mark.parametrize("text", ["[limiters.api]\nlim", '[limiters.api]\nlimt = "2/minute"\n', ""])
def test_a_file_that_is_wrong_changes_nothing_and_is_told_of_once(
    file: Path, watch: Watch, applied: Applied, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    broken = text or "[limiters.api]\nlimit = 5"
    file.write_text(broken, "utf-8")
    with caplog.at_level(logging.ERROR, "headgate"):
        assert [watch.check() for _ in range(3)] == [False] * 3
    assert applied.limits == []
    (record,) = caplog.records
    assert "what was configured before stays in force" in record.getMessage()
    assert str(file) in record.getMessage()
    file.write_text(limiter(3), "utf-8")
    assert changed(watch)
    assert applied.limits == ["3/minute"]


def test_a_file_that_is_gone_for_a_while_changes_nothing(
    file: Path, watch: Watch, applied: Applied, caplog: pytest.LogCaptureFixture
) -> None:
    file.unlink()
    assert [watch.check() for _ in range(3)] == [False] * 3
    assert len(caplog.records) == 1
    in_place(file, limiter(1))
    assert changed(watch)
    assert applied.limits == ["1/minute"]


def test_half_a_file_is_not_believed(file: Path, watch: Watch, applied: Applied) -> None:
    whole = limiter(25)
    for end in range(len(whole) + 1):
        in_place(file, whole[:end])
        assert not watch.check()
    assert watch.check()
    assert applied.limits == ["25/minute"]


def test_an_empty_file_takes_no_limit_away(
    file: Path, watch: Watch, applied: Applied, caplog: pytest.LogCaptureFixture
) -> None:
    in_place(file, "\n")
    assert not changed(watch)
    assert "is empty" in caplog.text


def test_what_is_applied_may_be_refused(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(config: Config) -> None:
        raise InvalidUse("this does not fit")

    watch = Watch(file, refuse)
    in_place(file, limiter(2))
    assert not changed(watch)
    assert "this does not fit" in caplog.text
    assert str(watch.config.limiters["api"].limits) == "1/minute"


def test_a_file_that_is_wrong_at_first_is_an_error(tmp_path: Path, applied: Applied) -> None:
    with pytest.raises(ConfigError):
        Watch(tmp_path / "missing.toml", applied)
    with pytest.raises(InvalidUse, match="no file to watch"):
        Watch({"limiters": {}}, applied)


@pytest.mark.parametrize("way", ["watchfiles", "polling"])
def test_a_thread_sees_a_change(
    file: Path, watch: Watch, applied: Applied, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "polling":
        monkeypatch.setitem(sys.modules, "watchfiles", None)
    watch.start()
    by_renaming(file, limiter(2))
    assert applied.coming.wait(PATIENCE_S)
    applied.coming.clear()
    in_place(file, limiter(3))
    assert applied.coming.wait(PATIENCE_S)
    assert applied.limits == ["2/minute", "3/minute"]


@pytest.mark.parametrize("way", ["watchfiles", "polling"])
def test_a_thread_ends_when_it_is_told_to(
    file: Path, applied: Applied, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "polling":
        monkeypatch.setitem(sys.modules, "watchfiles", None)
    watch = Watch(file, applied)
    watch.start()
    watch.close()
    watch.join(PATIENCE_S)
    assert not watch.is_running


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_sighup_has_the_file_read_and_the_earlier_handler_called(file: Path, applied: Applied) -> None:
    heard: list[int] = []
    earlier = signal.signal(signal.SIGHUP, lambda number, _: heard.append(number))
    try:
        watch = Watch(file, applied, on_sighup=True, is_polling=False)
        watch.start()
        in_place(file, limiter(2))
        os.kill(os.getpid(), signal.SIGHUP)
        assert applied.coming.wait(PATIENCE_S)
        assert heard == [signal.SIGHUP]
        watch.close()
        os.kill(os.getpid(), signal.SIGHUP)
        assert len(heard) == 2
    finally:
        signal.signal(signal.SIGHUP, earlier)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_sighup_is_for_the_main_thread(file: Path, applied: Applied) -> None:
    errors: list[Exception] = []

    def work() -> None:
        try:
            Watch(file, applied, on_sighup=True)
        except InvalidUse as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "the main thread alone" in str(errors[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # that a thread runs meanwhile is meant
def test_a_forked_process_watches_by_itself(file: Path, watch: Watch, tmp_path: Path) -> None:
    watch.start()
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        applied = watch._apply
        assert isinstance(applied, Applied)
        os.write(told, b".")
        os._exit(0 if applied.coming.wait(PATIENCE_S) else 1)
    os.read(ready, 1)
    in_place(file, limiter(2))
    assert os.waitpid(child, 0)[1] == 0


def test_limiters_of_a_process_go_on_with_a_file_that_changes(file: Path) -> None:
    file.write_text(limiter(1) + 'timeout = "1s"\n', "utf-8")
    try:
        configure(file, watch=True)
        watch = configured_watch()
        assert watch is not None
        api = get_limiter("api")
        assert api.try_acquire()
        assert not api.try_acquire()
        in_place(file, limiter(1))
        changed(watch)
        assert api.settings.timeout is None
        assert not api.try_acquire()  # what was spent stays
        in_place(file, limiter(7))
        changed(watch)
        assert api.try_acquire("another").limit == 7
        configure({"limiters": {}})
        watch.join(PATIENCE_S)
        assert not watch.is_running
    finally:
        close()


def test_what_code_has_added_stays_when_the_file_changes(file: Path) -> None:
    try:
        configure(file, watch=True)
        watch = configured_watch()
        assert watch is not None
        configure_store("memory", store=MemoryStore(ManualClock()))
        configure_limiter("more", "2/minute")
        assert get_limiter("more").try_acquire()
        in_place(file, limiter(7))
        changed(watch)
        assert get_limiter("api").settings.limits == parse_limit("7/minute")
        assert get_limiter("more").try_acquire().remaining == 0
    finally:
        close()
