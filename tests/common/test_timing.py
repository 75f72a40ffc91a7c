import mmap
import time

import numpy as np

from projects.common.speed.timing import (
    PeakMemory,
    show_table,
    time_in_turn,
)


def test_each_round_times_each_variant():
    order = []
    variants = {name: lambda name=name: order.append(name) for name in ('a', 'b')}
    seconds = time_in_turn(variants, rounds=3, warm_up=1)
    assert order == ['a', 'b'] * 4
    assert set(seconds) == {'a', 'b'} and min(seconds.values()) > 0


def test_table_has_the_columns_of_all_rows(capsys):
    show_table([{'name': 'a', 'ms': 1.25}, {'name': 'long name', 'diff': 1e-6}])
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        'name       ms    diff',
        'a          1.25',
        'long name        1.0e-06',
    ]


def test_peak_of_memory_that_is_gone_at_the_end():
    with PeakMemory() as memory:
        for size in (200, 50):  # MiB; mapped, so that closing gives it back whatever malloc keeps
            block = mmap.mmap(-1, size << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            np.frombuffer(block, np.uint8).fill(1)
            time.sleep(0.05)
            block.close()
    assert 195 < memory.peak / 2**20 < 240
