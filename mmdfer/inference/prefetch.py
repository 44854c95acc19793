"""Run an iterator in a thread, ahead of its consumer."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar('T')
_WAIT = 0.1  # seconds after which a waiting thread looks whether it should stop


def prefetch(items: Iterable[T], size: int) -> Generator[T, None, None]:
    """Yield the items of an iterable, which a thread reads ahead.

    If the consumer stops early, the thread stops too. An error of the iterable is raised here,
    after the items before it.

    Args:
        items: The iterable. It is iterated in the thread only.
        size: Largest number of items that wait to be yielded.
    """
    queue: Queue[T] = Queue(size)
    stop, errors = Event(), []

    def read() -> None:
        try:
            for item in items:
                while not stop.is_set():
                    try:
                        queue.put(item, timeout=_WAIT)
                        break
                    except Full:
                        continue
                if stop.is_set():
                    break
        except BaseException as error:  # raised again in the thread of the consumer
            errors.append(error)
        finally:
            close = getattr(items, 'close', None)
            if close is not None:
                close()  # the iterable releases its file or camera in its own thread

    thread = Thread(target=read, daemon=True)
    thread.start()
    try:
        while True:
            try:
                yield queue.get(timeout=_WAIT)
            except Empty:
                if thread.is_alive() or not queue.empty():
                    continue
                if errors:
                    raise errors[0] from None
                return
    finally:
        stop.set()
        thread.join()
