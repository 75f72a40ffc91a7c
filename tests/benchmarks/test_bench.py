"""What `make bench` writes: figures that fit together, a page of them alone, nothing lost."""

from __future__ import annotations

import csv
import mmap
import re
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks import rvse
from benchmarks.measure import (
    PeakMemory,
    Settings,
    compare,
    compare_stages,
    count_work,
    plain_products,
    training_step,
)
from benchmarks.page import write_page
from benchmarks.table import Table
from projects.common.errors import InputError
from projects.common.speed import products
from projects.common.speed.products import fast_products

BENCH = '../benchmarks/bench.py'


def row(**values) -> dict:
    base = dict(
        project='plvl', what='batch', size_name='images', size=2, ours=0.5, baseline=1.0, unit='s',
        ratio=2.0, against='another way', peak_mib=10.0, baseline_peak_mib=20.0, gflop=100.0,
        gbyte=1.0, repeats=3, dtype='float32', device='cpu', threads=2, versions='torch 0',
    )  # fmt: skip
    return {**base, **values}


def machine(**values) -> dict:
    return {**row(project='machine', what='matrix product', size_name='side'), **values}


@pytest.fixture
def threads() -> Iterator[None]:
    """The tool takes all cores; the tests after it do not."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_bench_writes_figures_and_page(call_tool, tmp_path, threads) -> None:
    where = ['--out', tmp_path / 'out', '--docs', tmp_path / 'docs', '--quick']
    asked = ['--only', 'machine', 'rvse/similarity', *where]
    call_tool(BENCH, *asked)
    (path,) = (tmp_path / 'out').iterdir()
    content = path.read_text()
    rows = list(csv.DictReader(content.splitlines()))
    assert content.splitlines()[0] == (
        'project,what,size_name,size,ours,baseline,unit,ratio,against,peak_mib,baseline_peak_mib,'
        'gflop,gbyte,repeats,dtype,device,threads,versions'
    )
    assert {(r['project'], r['what'], r['dtype']) for r in rows} == {
        ('machine', 'matrix product', 'float32'),
        ('machine', 'matrix product', 'bfloat16'),
        ('machine', 'memory copy', 'float32'),
        ('rvse', 'similarity of VSE', 'float32'),
    }
    for r in rows:
        assert float(r['ours']) > 0 and float(r['baseline']) > 0
        ratio = float(r['baseline']) / float(r['ours'])
        assert float(r['ratio']) == pytest.approx(ratio, rel=1e-3)
        assert r['versions'].startswith(f'torch {torch.__version__}')
    assert float(rows[0]['gflop']) == pytest.approx(2 * 256**3 / 1e9, rel=1e-4)
    # operations of 8 images with 10 captions, a million pairs' worth: 2 x 1024 each
    assert float(rows[-1]['gflop']) == pytest.approx(2 * 1024 * 1e6 / 1e9, rel=1e-4)
    page = (tmp_path / 'docs/benchmarks.md').read_text()
    assert '### Similarity of VSE' in page and '## PLVL' not in page
    assert 'Nothing was measured on a GPU' in page
    # a second call finds everything measured, and writes the same page
    assert call_tool(BENCH, *asked).out.split() == [str(tmp_path / 'docs/benchmarks.md')]
    assert path.read_text() == content
    assert (tmp_path / 'docs/benchmarks.md').read_text() == page


def test_an_unknown_part_is_named(call_tool, threads) -> None:
    (error,) = call_tool(BENCH, '--only', 'pvl', rc=1).err.splitlines()
    assert 'pvl: no such part; expected one of machine, plvl' in error


def test_the_page_says_what_the_csv_says(tmp_path) -> None:
    path = tmp_path / 'some-machine.csv'
    table = Table(path)
    table.append([
        machine(gflop=40.0, ours=0.1, baseline=0.2),
        machine(what='memory copy', size_name='MiB', gflop=None, gbyte=4.0, ours=0.1),
        row(),
        row(what='training step: backward', ours=3.0, baseline=3.0, ratio=1.0),
        row(project='pdsl', what='proposals', size_name='longer side', gflop=None, gbyte=None),
    ])  # fmt: skip
    folder = tmp_path / 'docs'
    text = write_page(Table(path), folder).read_text()
    # 40 GFLOP in 0.1 s are 400 GFLOP/s: 100 GFLOP take 0.25 s of 0.5 s; 1 GB at 40 GB/s 0.025 s
    assert '| 2 | 500 ms | 1 s | 2.00 | 4/s | 10 MiB | 20 MiB | compute, 50 % | 3 |' in text
    assert '400 GFLOP/s' in text and '40.0 GB/s' in text and 'some-machine' in text
    # a stage has a table below that of the whole
    (section,) = re.findall(r'### Training step\n(.*?)\n## ', text, re.S)
    assert '| backward | 2 | 3 s | 3 s | 1.00 |' in section
    assert '### Proposals' in text[text.index('## PDSL') :]


def test_a_stop_loses_no_measurement(tmp_path) -> None:
    path = tmp_path / 'm.csv'
    table = Table(path)
    table.append([row(), row(size=4)])
    content = path.read_text()
    path.write_text(content + 'plvl,batch,images,8,0.1,0.')  # killed while it wrote
    table = Table(path)
    assert path.read_text() == content
    assert table.has(row(size=4)) and not table.has(row(size=8))
    assert not table.has(row(versions='torch 1'))
    table.append([row(ours=0.25, ratio=4.0)])
    found = Table(path).numbers()
    assert [(r['size'], r['ours']) for r in found] == [(2, 0.25), (4, 0.5)]
    path.write_text('a,b\n')
    with pytest.raises(InputError, match='columns a, b; expected project'):
        Table(path)


def test_arithmetic_and_traffic_are_counted() -> None:
    a, b = torch.randn(8, 16), torch.randn(16, 32)
    found = count_work(lambda stage: (a @ b).view(-1))['']
    assert found['gflop'] * 1e9 == 2 * 8 * 16 * 32
    assert found['gbyte'] * 1e9 == 4 * (8 * 16 + 16 * 32 + 8 * 32)
    wide = torch.ones(1).expand(1000)
    assert count_work(lambda stage: wide.neg())['']['gbyte'] * 1e9 == 4 + 4 * 1000
    stages = count_work(lambda stage: stage('second', torch.neg, stage('first', torch.mm, a, b)))
    assert stages['first']['gflop'] * 1e9 == 2 * 8 * 16 * 32 and stages['second']['gflop'] == 0
    assert stages['']['gbyte'] == stages['first']['gbyte'] + stages['second']['gbyte']


def test_both_runs_take_turns() -> None:
    order = []

    def run(name, stage):
        stage('one', order.append, name)
        assert stage('two', lambda: time.sleep(0.01) or 7) == 7

    rows = compare_stages(
        lambda stage: run('ours', stage), lambda stage: run('other', stage), Settings(rounds=2)
    )
    assert [row['stage'] for row in rows] == ['one', 'two', '']
    # once each for the memory, then in turn, then once without and once with counting
    assert order[:6] == ['ours', 'other', *['ours', 'other'] * 2]
    one, two, whole = rows
    assert 0.01 < two['ours'] < whole['ours'] and 0.01 < two['baseline'] < whole['baseline']
    assert one['ours'] < 0.01 and whole['repeats'] == 2
    assert compare(lambda: time.sleep(0.01), None, Settings(rounds=2))['ours'] > 0.01


def test_baselines_are_plain_pytorch(monkeypatch) -> None:
    """As a decorator too, again and again; what is outside keeps our products."""
    calls = []
    monkeypatch.setattr(products, 'linear', lambda *a: calls.append(a) or torch.zeros(1))
    layer, x = torch.nn.Linear(3, 2), torch.ones(4, 3)

    def run() -> tuple:
        return tuple(layer(x).shape)

    with fast_products(True):
        baseline = plain_products()(run)
        assert baseline() == baseline() == (4, 2) and not calls
        assert run() == (1,) and len(calls) == 1


@pytest.mark.parametrize('name', ['SAF', 'SCAN t2i'])
def test_the_published_loop_does_not_use_our_products(name, monkeypatch) -> None:
    """Ours does, as it does in the tools, where it has products with weights."""
    where = []
    monkeypatch.setattr(
        products,
        'linear',
        lambda *a: where.append('loop' if in_loop else 'ours') or torch.nn.functional.linear(*a),
    )
    in_loop = False
    loop = rvse.published_loop

    def watched(*arguments):
        score = loop(*arguments)

        def run(*inputs):
            nonlocal in_loop
            in_loop = True
            found = score(*inputs)
            in_loop = False
            return found

        where.clear()  # of what is prepared once
        return run

    monkeypatch.setattr(rvse, 'published_loop', watched)
    with fast_products(True):
        row = rvse.similarity(name, 2, 5, Settings(rounds=1))
    assert row['ours'] > 0 and row['baseline'] > 0 and 'loop' not in where
    assert name != 'SAF' or 'ours' in where


def test_a_training_step_has_three_stages() -> None:
    layer = torch.nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    seen = []

    def stage(name, function, *inputs):
        seen.append(name)
        return function(*inputs)

    sgd = torch.optim.SGD(layer.parameters(), lr=1.0)
    training_step(lambda: layer(torch.tensor([[1.0, 2.0]])).sum(), sgd, stage)
    assert seen == ['forward', 'backward', 'optimizer step'] and layer.weight.grad is None
    torch.testing.assert_close(layer.weight.detach(), before - torch.tensor([[1.0, 2.0]]))


def test_peak_of_memory_that_is_gone_at_the_end() -> None:
    with PeakMemory() as memory:
        for size in (200, 50):  # MiB; mapped, so that closing gives it back whatever malloc keeps
            block = mmap.mmap(-1, size << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            np.frombuffer(block, np.uint8).fill(1)
            time.sleep(0.05)
            block.close()
    assert 195 < memory.peak / 2**20 < 240


def test_figure_8(call_tool, tmp_path, threads) -> None:
    """The members of an ensemble score one after the other."""
    script, out = '../benchmarks/figure8.py', tmp_path / 'figure8.png'
    points = ('VSE=500:VSE', 'SCAN=465:SCAN t2i', 'Both=520.5:VSE+SCAN t2i')
    done = call_tool(script, out, *points, '--images', 6, '--captions', 8)
    lines = [re.fullmatch(r'(.+): RSUM ([\d.]+), ([\d.]+) thousand pairs per second', line)
             for line in done.out.strip().splitlines()[-3:]]  # fmt: skip
    assert [(line[1], line[2]) for line in lines] == [
        ('VSE', '500.0'), ('SCAN', '465.0'), ('Both', '520.5')
    ]  # fmt: skip
    one, two, both = (float(line[3]) for line in lines)
    assert 1 / both == pytest.approx(1 / one + 1 / two, rel=0.01)
    assert out.stat().st_size > 5000
    done = call_tool(script, out, 'SCAN=465:SCAN', rc=2)
    assert "'SCAN=465:SCAN', expected NAME=RSUM:MEMBER[+MEMBER] with members VSE, SCAN" in done.err
