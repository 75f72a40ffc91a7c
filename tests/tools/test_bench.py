"""What `make bench` writes: figures that fit together, a page of them alone, nothing lost."""

from __future__ import annotations

import csv
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def parts(repo_root, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_root / 'tools' / 'analysis_tools'))
    from bench_parts import page, roofline, stages, table, work

    return {'page': page, 'roofline': roofline, 'stages': stages, 'table': table, 'work': work}


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
    call_tool('analysis_tools/bench.py', *asked)
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
        ('machine', 'copy of memory', 'float32'),
        ('rvse', 'similarity of VSE', 'float32'),
    }
    for r in rows:
        assert float(r['ours']) > 0 and float(r['baseline']) > 0
        ratio = float(r['baseline']) / float(r['ours'])
        assert float(r['ratio']) == pytest.approx(ratio, rel=1e-3)
        assert r['versions'].startswith(f'torch {torch.__version__}')
    assert float(rows[0]['gflop']) == pytest.approx(2 * 256**3 / 1e9, rel=1e-4)
    # operations of 8 pictures with 10 captions, a million pairs' worth: 2 x 1024 each
    assert float(rows[-1]['gflop']) == pytest.approx(2 * 1024 * 1e6 / 1e9, rel=1e-4)
    page = (tmp_path / 'docs/benchmarks.md').read_text()
    assert '### Similarity of VSE' in page and '## PLVL' not in page and 'Not run' in page
    # a second call finds everything measured, and writes the same page
    assert call_tool('analysis_tools/bench.py', *asked).out.split() == [
        str(tmp_path / 'docs/benchmarks.md')
    ]
    assert path.read_text() == content
    assert (tmp_path / 'docs/benchmarks.md').read_text() == page


def test_an_unknown_part_is_named(call_tool, threads) -> None:
    (error,) = call_tool('analysis_tools/bench.py', '--only', 'pvl', rc=1).err.splitlines()
    assert 'pvl: no such part; expected one of machine, plvl' in error


def test_the_page_says_what_the_csv_says(parts, tmp_path) -> None:
    path = tmp_path / 'some-machine.csv'
    table = parts['table'].Table(path)
    table.append([
        machine(gflop=40.0, ours=0.1, baseline=0.2),
        machine(what='copy of memory', size_name='MiB', gflop=None, gbyte=4.0, ours=0.1),
        row(),
        row(what='training step: backward', ours=3.0, baseline=3.0, ratio=1.0),
        row(project='pdsl', what='proposals', size_name='longer side', gflop=None, gbyte=None),
    ])  # fmt: skip
    folder = tmp_path / 'docs'
    text = parts['page'].write_page(parts['table'].Table(path), folder).read_text()
    # 40 GFLOP in 0.1 s are 400 GFLOP/s: 100 GFLOP take 0.25 s of 0.5 s; 1 GB at 40 GB/s 0.025 s
    assert '| 2 | 500 ms | 1 s | 2.00 | 4 | 10 MiB | 20 MiB | arithmetic | 50 % | 3 |' in text
    assert '400 GFLOP/s' in text and '40.0 GB/s' in text and 'some-machine' in text
    costs = text[text.index('## The largest') : text.index('## PLVL')].splitlines()
    # 3 s of two images are 1.5 s each, more than the proposals' 0.5 s
    assert [line.split(' | ')[:2] for line in costs if line.startswith('| all')] == [
        ['| all', 'PLVL, training step: backward'],
        ['| all', 'PDSL, proposals'],
    ]
    assert '| all | PLVL, training step: backward | 2 images | 1.5 |' in text
    assert (folder / 'images/bench_roofline.png').stat().st_size > 1000


def test_a_stop_loses_no_measurement(parts, tmp_path) -> None:
    path = tmp_path / 'm.csv'
    table = parts['table'].Table(path)
    table.append([row(), row(size=4)])
    content = path.read_text()
    path.write_text(content + 'plvl,batch,images,8,0.1,0.')  # killed while it wrote
    table = parts['table'].Table(path)
    assert path.read_text() == content
    assert table.has(row(size=4)) and not table.has(row(size=8))
    assert not table.has(row(versions='torch 1'))
    table.append([row(ours=0.25, ratio=4.0)])
    found = parts['table'].Table(path).numbers()
    assert [(r['size'], r['ours']) for r in found] == [(2, 0.25), (4, 0.5)]
    path.write_text('a,b\n')
    with pytest.raises(Exception, match='columns a, b; expected project'):
        parts['table'].Table(path)


def test_arithmetic_and_traffic_are_counted(parts) -> None:
    a, b = torch.randn(8, 16), torch.randn(16, 32)
    found = parts['work'].work(lambda: (a @ b).view(-1))
    assert found['gflop'] * 1e9 == 2 * 8 * 16 * 32
    assert found['gbyte'] * 1e9 == 4 * (8 * 16 + 16 * 32 + 8 * 32)
    wide = torch.ones(1).expand(1000)
    assert parts['work'].work(lambda: wide.neg())['gbyte'] * 1e9 == 4 + 4 * 1000


def test_stages_add_up(parts) -> None:
    order = []

    def run(name, stage):
        stage('one', order.append, name)
        assert stage('two', lambda: 7) == 7

    settings = parts['work'].Settings(rounds=2)
    rows = parts['stages'].staged(
        'all', lambda stage: run('ours', stage), lambda stage: run('other', stage), settings
    )
    assert [r.get('what') for r in rows] == ['all: one', 'all: two', None]
    # once to count, once each for the memory, then in turn
    assert order == ['ours', 'ours', 'other', *['ours', 'other'] * 2]
    assert rows[2]['ours'] > 0 and rows[2]['repeats'] == 2
