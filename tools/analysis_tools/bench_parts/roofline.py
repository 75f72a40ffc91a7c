"""Limits of a measurement: the machine's arithmetic or memory, and how close it comes."""

from __future__ import annotations

from collections.abc import Sequence

from .table import Row


class Roof:
    """Hold the machine's peak rates, taken from the rows that measured them.

    Args:
        rows: All rows.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.gflops: dict[tuple[str, str, str], float] = {}
        self.gbytes: dict[tuple[str, str], float] = {}
        for row in rows:
            if row['project'] != 'machine':
                continue
            where = (row['device'], row['threads'])
            if row['gflop']:
                # the baseline is the other library's float32 product
                seconds = [row['ours']]
                if row['dtype'] == 'float32' and row['baseline']:
                    seconds.append(row['baseline'])
                self.gflops[(row['dtype'], *where)] = row['gflop'] / min(seconds)
            else:
                self.gbytes[where] = row['gbyte'] / row['ours']

    def limit(self, row: Row) -> tuple[str, float] | None:
        """Return what limits the row, and the limit's share of the measured time."""
        where = (row['device'], row['threads'])
        gflops = self.gflops.get((row['dtype'], *where))
        gbytes = self.gbytes.get(where)
        if row['gflop'] is None and row['gbyte'] is None or not gflops or not gbytes:
            return None
        arithmetic = (row['gflop'] or 0) / gflops
        memory = (row['gbyte'] or 0) / gbytes
        name = 'arithmetic' if arithmetic >= memory else 'memory'
        return name, max(arithmetic, memory) / row['ours']

    def cells(self, row: Row) -> tuple[str, str]:
        """Return the limit's name and share as text, or empty strings if nothing was counted."""
        found = self.limit(row)
        return ('', '') if found is None else (found[0], f'{100 * found[1]:.0f} %')
