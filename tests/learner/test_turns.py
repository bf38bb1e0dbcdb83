"""Threads that share a learner take turns."""

import threading
import time

import pytest

from tflearner.learner.turns import Turns, in_turn


class Counter:
    def __init__(self):
        self._turns, self.inside, self.most = Turns(), 0, 0

    @in_turn
    def count(self, depth=2):
        if depth:  # A thread that has its turn keeps it.
            return self.count(depth - 1)
        self.inside += 1
        time.sleep(0.001)
        self.most = max(self.most, self.inside)
        self.inside -= 1
        return depth


def test_one_thread_is_inside():
    counter = Counter()
    threads = [threading.Thread(target=counter.count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.most == 1


def test_a_thread_that_comes_back_at_once_lets_others_in():
    counter, is_done = Counter(), threading.Event()

    def loop():
        while not is_done.is_set():
            counter.count()

    thread = threading.Thread(target=loop)
    thread.start()
    started = time.perf_counter()
    for _ in range(20):
        counter.count()
    seconds = time.perf_counter() - started
    is_done.set()
    thread.join()
    assert seconds < 5.0  # 0.05 s here.


def test_an_error_ends_the_turn():
    turns = Turns()
    for _ in range(2):
        with pytest.raises(KeyError), turns.take(), turns.take():
            raise KeyError
