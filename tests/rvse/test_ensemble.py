"""The ensemble command against a mean that the test computes, and the published figures."""

import json

import numpy as np
import pytest

SCRIPT = 'analysis_tools/ensemble_matching.py'


def write(path, sims, source='testall_caps.txt'):
    np.save(path, sims.astype(np.float32))
    owner = np.repeat(np.arange(len(sims)), sims.shape[1] // len(sims)).tolist()
    truth = dict(source=source, image_of_caption=owner)
    path.with_suffix('.json').write_text(json.dumps(truth))
    return path


def recalls(sims):
    """R@1, 5, 10 both ways by sorting; there are no ties."""
    owner = np.repeat(np.arange(len(sims)), sims.shape[1] // len(sims))
    i2t = [min(np.flatnonzero(owner[np.argsort(-row)] == i)) for i, row in enumerate(sims)]
    t2i = [int(np.argsort(-col).tolist().index(owner[c])) for c, col in enumerate(sims.T)]
    return [100 * np.mean(np.array(ranks) < k) for ranks in (i2t, t2i) for k in (1, 5, 10)]


KEYS = ['i2t/r1', 'i2t/r5', 'i2t/r10', 't2i/r1', 't2i/r5', 't2i/r10']


def test_equals_the_mean(call_tool, tmp_path):
    rng = np.random.default_rng(0)
    truth = np.kron(np.eye(40), np.ones((1, 5)))
    matrices = [truth + rng.normal(0, 0.7, (40, 200)) for _ in range(3)]
    files = [write(tmp_path / f'{i}.npy', sims) for i, sims in enumerate(matrices)]
    out = tmp_path / 'out' / 'figures.json'
    done = call_tool(SCRIPT, *files, '--folds', 4, '--out', out)
    found = json.loads(out.read_text())
    assert list(found) == [*map(str, files), 'ensemble']
    single = [sims.astype(np.float32).astype(np.float64) for sims in matrices]
    for name, sims in zip(found, [*single, np.mean(single, axis=0)]):
        assert [found[name][key] for key in KEYS] == pytest.approx(recalls(sims))
        folds = [recalls(sims[f : f + 10, 5 * f : 5 * f + 50]) for f in range(0, 40, 10)]
        assert [found[name][f'fold/{key}'] for key in KEYS] == pytest.approx(
            np.mean(folds, axis=0).tolist()
        )
    assert found['ensemble']['rsum'] > max(found[str(file)]['rsum'] for file in files)
    assert f'{found["ensemble"]["rsum"]:.2f}' in done.out and 'mean of 4 folds' in done.out


def test_published_figures(call_tool, shared_reference, tmp_path):
    """The figures that the released evaluation prints of this matrix, in full and by folds."""
    golden = np.load(shared_reference / 'goldens/itm_eval.npz')
    file = write(tmp_path / 'c50.npy', golden['c50_full_sims'])
    out = tmp_path / 'figures.json'
    call_tool(SCRIPT, file, '--folds', 5, '--out', out)
    found = json.loads(out.read_text())
    assert list(found) == [str(file)]  # one model is no ensemble
    assert found[str(file)]['rsum'] == pytest.approx(274.0)
    assert found[str(file)]['fold/rsum'] == pytest.approx(470.4)


def test_files_that_do_not_fit(call_tool, tmp_path):
    sims = np.random.default_rng(0).normal(size=(6, 30))
    one = write(tmp_path / 'one.npy', sims)
    two = write(tmp_path / 'two.npy', sims[:5, :25], 'dev_caps.txt')

    def error(*arguments) -> str:
        return call_tool(SCRIPT, *arguments, rc=1).err

    assert 'two.npy: of dev_caps.txt, but' in error(one, two)
    same_size = write(tmp_path / 'three.npy', sims, 'dev_caps.txt')
    assert 'three.npy: of dev_caps.txt, but' in error(one, same_size)
    assert 'none.npy: no such file; test_cfg.similarity_file' in error(one, tmp_path / 'none.npy')
    assert '6 images, but 4 folds of 1 need 4' in error(one, '--folds', 4)
    np.save(two, sims)
    assert 'two.npy: shape (6, 30), but two.json is of (5, 25)' in error(two)
