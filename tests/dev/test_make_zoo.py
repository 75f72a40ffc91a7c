"""Tables of results come from the metafiles, and a metafile cannot say what it must not."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelindex.load_model_index import load

METAFILE = """\
Collections:
  - {Name: Net, Paper: {Title: A net}, Code: {URL: 'https://example.org'}}
Metrics:
  recall: percent
Runs:
  short: {Command: python train.py --seed SEED, Hardware: two CPU cores}
Models:
  - Name: net_a
    In Collection: Net
    Config: configs/net/net_a.py
    Results:
      - {Task: Retrieval, Dataset: test, Metrics: {recall (paper): 81.60}}
      - {Task: Retrieval, Dataset: test, Run: short, Seed: 3, Metrics: {recall (ours): 80.0 ± 1.25}}
  - Name: net_b
    In Collection: Net
    Config: configs/net/net_b.py
  - {Name: net_c, In Collection: Net, Config: configs/net/net_c.py, No Row: only an example}
Ensembles:
  - Name: both
    Models: [net_a, net_b]
    Results: [{Task: Retrieval, Dataset: test, Metrics: {recall (paper): 85}}]
Not Built:
  - {Name: theirs, Results: [{Task: Retrieval, Dataset: test, Metrics: {recall (paper): 84.2}}]}
Tables:
  - Name: first
    Title: All nets
    Dataset: test
    Columns:
      - what: text
      - config: config
      - recall: recall (paper)
      - recall, ours: recall (ours)
    Rows:
      - {what: one, Model: net_a}
      - {what: other, Model: net_b, Link: b}
      - {what: mean, Model: both}
      - {what: another's, Model: theirs}
"""
README = '# The nets\n\nBefore.\n\n<!-- zoo: first -->\n<!-- end zoo -->\n\nAfter.\n'
WRITTEN = """\
# The nets

Before.

<!-- zoo: first -->

| what | config | recall | recall, ours |
|---|---|---|---|
| one | [net_a](net_a.py) | 81.60 | 80.0 ± 1.25 |
| other | [b](net_b.py) | - | not trained |
| mean | [net_a](net_a.py) + [net_b](net_b.py) | 85 | not trained |
| another's | - | 84.2 | not built |

Figures: paper, but for those of `ours`:

- Ours, SEED 3: two CPU cores,
  `python train.py --seed SEED`

<!-- end zoo -->

After.
"""


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A checkout with three configs and one table."""
    folder = tmp_path / 'configs/net'
    (folder / '_base_').mkdir(parents=True)
    (tmp_path / 'docs').mkdir()
    for name in ('net_a', 'net_b', 'net_c', '_base_/net'):
        (folder / f'{name}.py').touch()
    (folder / 'metafile.yml').write_text(METAFILE)
    (folder / 'README.md').write_text(README)
    return tmp_path


def test_the_repository_is_up_to_date(call_tool) -> None:
    call_tool('../.dev/make_zoo.py', '--check')


def test_writes_tables_and_page(zoo: Path, call_tool) -> None:
    stale = call_tool('../.dev/make_zoo.py', '--root', zoo, '--check', rc=1)
    assert stale.err == (
        'error: configs/net/README.md: is not what the metafiles say; run python .dev/make_zoo.py\n'
    )
    assert (zoo / 'configs/net/README.md').read_text() == README
    call_tool('../.dev/make_zoo.py', '--root', zoo)
    assert (zoo / 'configs/net/README.md').read_text() == WRITTEN
    call_tool('../.dev/make_zoo.py', '--root', zoo, '--check')
    page = (zoo / 'docs/model_zoo.md').read_text()
    links = [f'[{name}](../configs/net/{name}.py)' for name in ('net_a', 'net_b')]
    assert f'| mean | {" + ".join(links)} | 85 | not trained |\n' in page
    assert '- Ours, SEED 3: two CPU cores,\n  `python train.py --seed SEED`\n' in page
    assert '- `net_c`: only an example\n' in page
    (zoo / 'docs/model_zoo.md').write_text(page.replace('84.2', '84.3'))
    stale = call_tool('../.dev/make_zoo.py', '--root', zoo, '--check', rc=1)
    assert stale.err.startswith('error: docs/model_zoo.md: is not what')


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('recall (paper): 81.60', 'recall: 81.60', "'recall': no label; expected recall (paper)"),
        ('recall (paper): 81.60', 'recall (theirs): 81.60', "'recall (theirs)': no label"),
        ('recall (paper): 81.60', 'recal (paper): 81.60', "unknown metric 'recal'"),
        ('recall (paper): 81.60', 'recall (paper): about 80', "'about 80' is no figure"),
        ('recall (paper): 81.60', 'recall (paper): 1, recall (paper): 2', "(paper)'] twice"),
        ('Run: short, ', '', 'a figure of ours has a Run, one of Runs, and a Seed'),
        ('Seed: 3, ', '', 'a figure of ours has a Run, one of Runs, and a Seed'),
        ('Run: short, ', 'Run: long, ', 'a figure of ours has a Run, one of Runs, and a Seed'),
        (', Hardware: two CPU cores', '', "run short: no 'Hardware'"),
        ('net_b.py', 'net_d.py', 'config configs/net/net_d.py: no such file below configs/net'),
        (', No Row: only an example', '', 'net_c: no table has a row of it'),
        ('      - {what: mean, Model: both}\n', '', 'both: no table has a row of it'),
        ('      - {what: other, Model: net_b, Link: b}\n', '      - {what: x, Model: net_c}\n',
         'net_c: has a row, and No Row says why it has none'),
        ('Model: net_b, Link', 'Model: net_d, Link', "no model 'net_d' in this metafile"),
        ('Models: [net_a, net_b]', 'Models: [net_a, net_d]', "both: no model 'net_d'"),
        ('Dataset: test, Run', 'Dataset: val, Run', 'no table shows 80.0 ± 1.25 (net_a, val'),
        ('Link: b}', 'recall: 12.5}', "'12.5' in place of a figure: expected one of"),
        ('what: one, Model: net_a}', 'what: one, Model: net_a, recall: "-"}',
         "'-', but there is a figure: 81.60"),
        ('what: one, ', 'wat: one, ', "unknown key 'wat'"),
        ('recall: recall (paper)', 'recall: recall', "column 'recall': 'recall': no label"),
        ('recall, ours: recall (ours)', 'recall: recall (ours)', 'must say ours, as others'),
        ('  recall: percent\n', '  recall: percent\n  rsum: sum\n', "no table asks for 'rsum'"),
        ('In Collection: Net\n    Config: configs/net/net_b.py',
         'In Collection: Nets\n    Config: configs/net/net_b.py', "no collection 'Nets'"),
        ('  - Name: first\n', '  - Name: second\n', "marks table 'first', which configs"),
    ],
)  # fmt: skip
def test_errors_are_one_line(zoo: Path, call_tool, old: str, new: str, message: str) -> None:
    assert METAFILE.count(old) == 1
    (zoo / 'configs/net/metafile.yml').write_text(METAFILE.replace(old, new))
    done = call_tool('../.dev/make_zoo.py', '--root', zoo, rc=1)
    assert message in done.err
    assert done.err.startswith('error: ') and len(done.err.strip().splitlines()) == 1
    assert (zoo / 'configs/net/README.md').read_text() == README


def test_a_config_needs_an_entry(zoo: Path, call_tool) -> None:
    (zoo / 'configs/net/net_d.py').touch()
    done = call_tool('../.dev/make_zoo.py', '--root', zoo, rc=1)
    assert done.err == (
        'error: configs/net/metafile.yml: Models: configs/net/net_d.py is missing\n'
    )


def test_two_seeds_must_be_told_apart(zoo: Path, call_tool) -> None:
    line = next(line for line in METAFILE.splitlines(True) if 'Run: short' in line)
    text = METAFILE.replace(line, line + line.replace('Seed: 3', 'Seed: 4').replace('80.0', '79'))
    (zoo / 'configs/net/metafile.yml').write_text(text)
    done = call_tool('../.dev/make_zoo.py', '--root', zoo, rc=1)
    assert "recall: which of the seeds ['3', '4']? Say Seed" in done.err
    one = '      - {what: one, Model: net_a}\n'
    both = one.replace('}', ', Seed: 3}') + one.replace('}', ', Seed: 4}')
    (zoo / 'configs/net/metafile.yml').write_text(text.replace(one, both))
    call_tool('../.dev/make_zoo.py', '--root', zoo)
    readme = (zoo / 'configs/net/README.md').read_text()
    assert (
        '| one | [net_a](net_a.py) | 81.60 | 80.0 ± 1.25 |\n| one | | 81.60 | 79 ± 1.25 |' in readme
    )
    assert '- Ours, SEED 3, 4: two CPU cores,' in readme


@pytest.mark.parametrize('text', ['<!-- zoo: first -->\n', README + README, 'no mark\n'])
def test_a_table_is_marked_once(zoo: Path, call_tool, text: str) -> None:
    (zoo / 'configs/net/README.md').write_text(text)
    done = call_tool('../.dev/make_zoo.py', '--root', zoo, rc=1)
    assert done.err.startswith("error: configs/net/README.md: marks table 'first'")
    assert (zoo / 'configs/net/README.md').read_text() == text


def test_the_model_index_reads_them(repo_root: Path) -> None:
    """The package that mim and mmpretrain read them with finds every config, and no fault."""
    index = load(str(repo_root / 'model-index.yml'))
    assert index.check(silent=True) == []
    configs = {model.config for model in index.models}
    leaves = {
        path.relative_to(repo_root).as_posix()
        for path in (repo_root / 'configs').rglob('*.py')
        if '_base_' not in path.parts
    }
    assert configs == leaves
    (model,) = [m for m in index.models if m.name == 'plvl_vit-b_4xb20-150e_refcoco+']
    (metrics,) = [r.metrics for r in model.results if r.task == 'REC' and 'testB' in r.dataset]
    assert metrics == {'accuracy (paper)': 71.55}
