"""Reading a configuration again when its file changes: by `watchfiles` where that is installed, else by a look at it
every second; and when the process gets a SIGHUP.

What counts is the content: it may be changed in place, replaced by another file, or be behind a link that leads
to another. A content that is not understood is logged once, and what was configured before stays. This module must not
know what is configured.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from headgate.config.loading import Config, Source, bytes_of, parsed, path_of
from headgate.errors import ConfigError, HeadgateError, InvalidUse
from headgate.runtime.daemons import Daemon
from headgate.runtime.forks import begin_afresh_in_child

logger = logging.getLogger("headgate")

_EVERY_S: Final = 1.0
"""How often the file is looked at even if nothing is told: some file systems tell nothing."""
_SETTLE_S: Final = 0.2
"""How long a new content has to stay before it is believed."""
_STEP_MS: Final = 100
"""How often watchfiles looks whether it is to end; and how long it waits for more changes."""
_FOREVER_S: Final = 86_400.0

_Handler = Callable[[int, types.FrameType | None], Any] | int | None


class Watch:
    """Watches one file. `check` looks at it now; `start` has a thread do that, in forked processes, too.

    :param source: the file, or None for the default one.
    :param apply: is called with each new configuration, from whatever thread has found it. If it raises an error of
        ours, the configuration counts as not understood.
    :param on_sighup: look at it when the process gets a SIGHUP, too?
    :param is_polling: look at it by itself at all?
    :raises ConfigError: if it is not understood now.
    :raises InvalidUse: if it is no file, or SIGHUP cannot be heard here.
    """

    def __init__(
        self,
        source: Source | Config | None,
        apply: Callable[[Config], object],
        *,
        on_sighup: bool = False,
        is_polling: bool = True,
    ) -> None:
        if source is not None and not isinstance(source, (str, os.PathLike)):
            raise InvalidUse("there is no file to watch: give the path of one")
        self.path: Final = path_of(source).absolute()
        self._shown = str(path_of(source))
        self._apply = apply
        self._is_polling = is_polling
        self._seen: bytes | str = bytes_of(self.path)
        """The content that was seen last, understood or not; or why there was none."""
        self._coming: bytes | str | None = None
        """Another one, which was seen once."""
        self.config = parsed(self._seen, self._shown)
        """The configuration that was understood last."""
        self._is_closed = False
        self._is_rung = False
        self._checking = threading.Lock()
        self._daemon = Daemon("headgate-config", self._run)
        self._earlier: _Handler = None
        self._hears_sighup = on_sighup
        if on_sighup:
            self._hear()

    def start(self) -> None:
        """Watch from now on."""
        self._daemon.start()
        begin_afresh_in_child(self, Watch._begin_in_child)

    def close(self) -> None:
        """Watch no more. The thread ends soon."""
        self._is_closed = True
        self._ring()
        if self._hears_sighup and signal.getsignal(signal.SIGHUP) == self._on_sighup:
            try:
                signal.signal(signal.SIGHUP, self._earlier)
            except ValueError:  # not in the main thread: the handler stays, and calls the earlier one
                logger.debug("headgate: SIGHUP is heard still, and changes nothing")

    @property
    def is_running(self) -> bool:
        """Is the thread at work?"""
        return self._daemon.is_alive

    def join(self, timeout_s: float) -> None:
        """Wait until the thread has ended, at most so long."""
        self._daemon.join(timeout_s)

    def check(self) -> bool:
        """Look at the file now. Is there something new in force? A content is believed when it is seen for the second
        time in a row: at first, it may be half of what is being written.
        """
        with self._checking:
            seen: bytes | str
            try:
                seen = bytes_of(self.path)
            except ConfigError as error:
                seen = str(error)
            if seen == self._seen or seen != self._coming:
                self._coming = None if seen == self._seen else seen
                return False
            self._seen, self._coming = seen, None
            try:
                config = self._understood(seen)
                self._apply(config)
            except HeadgateError as error:
                logger.error("headgate: what was configured before stays in force: %s", error)
                return False
            self.config = config
            logger.info("headgate: %s has changed, and is in force", self._shown)
            return True

    def _understood(self, seen: bytes | str) -> Config:
        if isinstance(seen, str):
            raise ConfigError(self._shown, [seen.removeprefix(f"{self.path}: ")])
        if not seen.strip():
            raise ConfigError(self._shown, ["is empty"])
        return parsed(seen, self._shown)

    def _begin_in_child(self) -> None:
        self._checking = threading.Lock()
        if not self._is_closed:
            self._daemon.begin()
            self._daemon.start()

    def _hear(self) -> None:
        if not hasattr(signal, "SIGHUP"):
            raise InvalidUse("this system has no SIGHUP: watch the file instead")
        if threading.current_thread() is not threading.main_thread():
            raise InvalidUse("SIGHUP is heard by the main thread alone: configure there, or watch the file instead")
        self._earlier = signal.getsignal(signal.SIGHUP)
        signal.signal(signal.SIGHUP, self._on_sighup)

    def _on_sighup(self, number: int, frame: types.FrameType | None) -> None:
        self._ring()
        if callable(self._earlier):
            self._earlier(number, frame)

    def _ring(self) -> None:
        self._is_rung = True
        self._daemon.ring()

    def is_set(self) -> bool:
        """Is watchfiles to stop waiting? It asks that of an event."""
        return not self._daemon.sleep(0) or self._is_rung or self._is_closed

    def _run(self) -> None:
        changes: Iterator[object] | None = None
        folders: set[Path] = set()
        while not self._is_closed:
            self._is_rung = False
            try:
                self.check()
            except Exception:  # whatever is wrong with one look, the next one may be right
                logger.exception("headgate: %s cannot be looked at", self._shown)
            if self._is_rung:
                continue
            if self._coming is not None:
                goes_on = self._daemon.sleep(_SETTLE_S)
            elif not self._is_polling:
                goes_on = self._daemon.sleep(_FOREVER_S)
            else:
                now = {folder for folder in (self.path.parent, self.path.resolve().parent) if folder.is_dir()}
                if changes is None or now != folders:
                    folders, changes = now, self._changes(now)
                if next(changes, None) is None:  # it cannot tell, or is to end
                    changes = None
                goes_on = self._daemon.sleep(0 if changes is not None or self._is_rung else _EVERY_S)
            if not goes_on:
                return

    def _changes(self, folders: set[Path]) -> Iterator[object]:
        """Waits until something has changed in the folders, or may have, each time it is asked for the next."""
        try:
            from watchfiles import watch

            yield from watch(
                *folders,
                watch_filter=None,
                recursive=False,
                debounce=_STEP_MS,
                step=_STEP_MS,
                rust_timeout=int(_EVERY_S * 1_000),
                yield_on_timeout=True,
                raise_interrupt=False,
                stop_event=self,
            )
        except ImportError:
            return
        except Exception as error:  # no folder, no more watches to be had, and what else systems come up with
            logger.debug("headgate: watchfiles cannot watch %s: %s", self._shown, error)
