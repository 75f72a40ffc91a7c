"""Found, boxed and cut out: equal to the two inferencers one after the other, files, errors."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image
from pycocotools import mask as coco_mask

from projects.common.scenes import generate_scene
from projects.common.text import WordPieceTokenizer
from projects.common.visualization import PRED_COLOR
from projects.plvl import GroundingInferencer
from projects.rvse import RetrievalInferencer
from projects.rvse.text import Vocabulary
from projects.search_and_ground import SearchAndGround, draw_hits

SENTENCES = ['the red circle', 'a small star left of the heart']
SIZES = (64, 64, 80, 96, 64, 72)


@pytest.fixture(scope='module')
def files(repo_root, tmp_path_factory) -> Path:
    """A folder of scenes and, as training leaves them, a checkpoint of either model."""
    folder = tmp_path_factory.mktemp('search_and_ground')
    (folder / 'photos').mkdir()
    for i, size in enumerate(SIZES):
        image = generate_scene(i, image_size=size).image[..., ::-1]
        Image.fromarray(image[: size - 8 * i]).save(folder / f'photos/{i}.png')
    torch.manual_seed(0)

    cfg = Config.fromfile(repo_root / 'configs/rvse/rvse_tiny_1xb32-3e_scenes.py')
    model = MODELS.build(cfg.model)
    model.text_encoder.set_vocabulary(Vocabulary.build(SENTENCES, min_count=1))
    meta = dict(cfg=cfg.pretty_text)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'rvse.pth')

    cfg = Config.fromfile(repo_root / 'configs/plvl/plvl_tiny_1xb16-3k_scenes.py')
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.text_encoder.set_tokenizer(WordPieceTokenizer.learn(SENTENCES, 100))
    meta = dict(cfg=cfg.pretty_text)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'plvl.pth')
    return folder


@pytest.fixture(scope='module')
def find(files) -> SearchAndGround:
    options = dict(device='cpu', show_progress=False)
    found = SearchAndGround(
        RetrievalInferencer(weights=files / 'rvse.pth', **options),
        GroundingInferencer(weights=files / 'plvl.pth', **options),
    )
    found.search.index(files / 'photos', files / 'store')
    return found


def close(first: dict, second: dict) -> None:
    assert first.keys() == second.keys() == {'image', 'sentence', 'bbox', 'score', 'mask'}
    assert (first['image'], first['sentence']) == (second['image'], second['sentence'])
    np.testing.assert_allclose(first['bbox'], second['bbox'], atol=1e-3)
    assert first['score'] == pytest.approx(second['score'], abs=1e-5)
    masks = [coco_mask.decode(entry['mask']) for entry in (first, second)]
    assert masks[0].shape == masks[1].shape
    assert (masks[0] != masks[1]).mean() < 0.01


def test_equals_the_two_by_hand(find, files, tmp_path):
    """Batches of several images and sentences against one search and one grounding each."""
    result = find(SENTENCES, files / 'store', top_k=4, batch_size=3, out_dir=tmp_path)
    assert result['visualization'] == []
    assert [each['query'] for each in result['predictions']] == SENTENCES
    for sentence, prediction in zip(SENTENCES, result['predictions']):
        (hits,) = find.search(sentence, files / 'store', top_k=4)
        assert len(hits) == len(prediction['hits']) == 4
        for hit, both in zip(hits, prediction['hits']):
            assert both['name'] == hit.name
            assert both['score'] == pytest.approx(hit.score, abs=1e-6)
            close(both['grounding'], find.ground(hit.name, sentence)['predictions'][0])
    assert json.loads((tmp_path / 'predictions.json').read_text()) == result['predictions']
    assert sorted(p.name for p in (tmp_path / 'vis').iterdir()) == [
        'sentence_0.jpg',
        'sentence_1.jpg',
    ]


def test_least_scores(find, files, tmp_path):
    """What is below either score is left out; a sentence may be left with nothing."""
    (every,) = find(SENTENCES[0], files / 'store', top_k=9)['predictions']
    assert len(every['hits']) == len(SIZES)
    by_cosine = sorted(hit['score'] for hit in every['hits'])
    by_object = sorted(hit['grounding']['score'] for hit in every['hits'])
    assert len(set(by_cosine)) == len(set(by_object)) == len(SIZES)
    limits = dict(
        min_image_score=(by_cosine[1] + by_cosine[2]) / 2,
        min_object_score=(by_object[2] + by_object[3]) / 2,
    )
    (kept,) = find(SENTENCES[0], files / 'store', top_k=9, **limits)['predictions']
    expected = [
        hit['name']
        for hit in every['hits']
        if hit['score'] in by_cosine[2:] and hit['grounding']['score'] in by_object[3:]
    ]
    assert 0 < len(expected) < len(SIZES)
    assert [hit['name'] for hit in kept['hits']] == expected
    for limit in limits:
        nothing = find(
            SENTENCES, files / 'store', **{limit: 1.5}, return_vis=True, out_dir=tmp_path
        )
        assert [each['hits'] for each in nothing['predictions']] == [[], []]
        assert nothing['visualization'] == [None, None]
        assert not (tmp_path / 'vis').exists()


def test_the_sheet_shows_box_and_mask(files):
    """Two images of a colour that nothing else has, in cells of the larger one's size."""
    names = []
    for i, (height, width) in enumerate(((50, 100), (100, 50))):
        names.append(str(files / f'plain{i}.png'))
        Image.new('RGB', (width, height), (0, 0, 200)).save(names[-1])
    mask = np.zeros((50, 100), np.uint8, order='F')
    mask[10:20, 60:90] = 1
    grounding = dict(bbox=[10, 20, 40, 40], score=0.5, mask=coco_mask.encode(mask))
    hits = [dict(name=names[0], score=0.9, grounding=grounding)]
    hits.append(dict(name=names[1], score=0.8, grounding=dict(score=0.1)))  # neither box nor mask
    sheet = draw_hits(dict(query='the square', hits=hits), side=200)
    assert sheet.shape[1] == 2 * 200 + 3 * 10  # 200 wide and 200 high, the gaps
    wide, high = sheet[-210:-110, 10:210], sheet[-210:-10, 220:320]
    assert (high == (0, 0, 200)).all() and (sheet[-210:-10, 320:420] == 255).all()
    assert (sheet[-110:-10, 10:210] == 255).all()
    assert (wide[22:38, 122:178] == (0, 0, 200)).all()  # twice the mask's pixels
    for row, column in ((40, 50), (80, 50), (60, 20), (60, 80)):  # the sides of the box
        near = wide[row - 5 : row + 5, column - 5 : column + 5]
        assert (near == PRED_COLOR).all(-1).any()
    assert (wide[60, 50] < 60).all()  # in the box, outside the mask: dimmed
    both = draw_hits(dict(query='the square', hits=hits), columns=1, side=200)
    assert both.shape[1] == 300  # the least width of a page
    assert both.shape[0] - sheet.shape[0] == 200 + 10 + round(14 * 1.7)


def test_what_cannot_be(find, files, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match='none: does not exist; index something first'):
        find(SENTENCES, tmp_path / 'none')
    with pytest.raises(ValueError, match='no sentences are given'):
        find([], files / 'store')
    with pytest.raises(ValueError, match='expected words'):
        find(' ', files / 'store')
    with pytest.raises(ValueError, match='top_k=0'):
        find(SENTENCES, files / 'store', top_k=0)
    with pytest.raises(ValueError, match='batch_size=0'):
        find(SENTENCES, files / 'store', batch_size=0)
    # what names a file is a sentence like any other: no stranger learns which files there are
    picture = str(files / 'photos/0.png')
    (prediction,) = find(picture, files / 'store', top_k=1)['predictions']
    (words,) = (
        find.search.encode_sentences(picture)
        @ find.search.encode_images(prediction['hits'][0]['name']).T
    )
    assert prediction['hits'][0]['score'] == pytest.approx(words[0], abs=1e-6)
    # by a relative name, and asked from another folder
    (tmp_path / 'p').mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ('a.png', 'b.png'):
        os.link(picture, tmp_path / 'p' / name)
    find.search.index('p', 'store')
    assert len(find(SENTENCES[0], 'store')['predictions'][0]['hits']) == 2
    monkeypatch.chdir(tmp_path / 'p')
    with pytest.raises(FileNotFoundError, match=r'p/[ab].png: in the index, but no such image'):
        find(SENTENCES[0], tmp_path / 'store')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'p/b.png').unlink()
    with pytest.raises(FileNotFoundError, match='p/b.png: in the index, but no such image'):
        find(SENTENCES[0], 'store', out_dir='out')
    assert not Path('out').exists()  # none of the others either
    left = find(SENTENCES[0], 'store', skip_damaged=True, skipped_file='skipped.tsv')
    assert [hit['name'] for hit in left['predictions'][0]['hits']] == ['p/a.png']
    assert Path('skipped.tsv').read_text() == 'p/b.png\timage p/b.png: no such file\n'
    Path('p/b.png').write_bytes(Path(picture).read_bytes()[:300])
    with pytest.raises(ValueError, match=r'p/b.png: not readable'):
        find(SENTENCES[0], 'store')
    find.search.index(SENTENCES, 'sentences')  # a store of sentences
    with pytest.raises(FileNotFoundError, match='the red circle: in the index, but no such image'):
        find(SENTENCES[0], 'sentences')


def test_from_the_shell(call_tool, find, files, tmp_path):
    weights = (
        *('--search-weights', files / 'rvse.pth', '--ground-weights', files / 'plvl.pth'),
        *('--device', 'cpu'),
    )
    store = tmp_path / 'shell'
    call_tool(
        *('infer.py', 'retrieval', 'index', files / 'photos', '--store', store),
        *('--weights', files / 'rvse.pth', '--device', 'cpu', '--cache-dir', tmp_path / 'cache'),
    )
    done = call_tool(
        *('infer.py', 'search-and-ground', *SENTENCES, '--store', store, *weights),
        *('--top-k', 2, '--batch-size', 2, '--out-dir', tmp_path / 'out'),
    )
    written = json.loads((tmp_path / 'out/predictions.json').read_text())
    expected = find(SENTENCES, files / 'store', top_k=2)['predictions']
    lines = []
    for ours, theirs in zip(written, expected, strict=True):
        assert ours['query'] == theirs['query']
        lines.append(theirs['query'])
        for one, other in zip(ours['hits'], theirs['hits'], strict=True):
            assert one['name'] == other['name']
            assert one['score'] == pytest.approx(other['score'], abs=1e-6)
            close(one['grounding'], other['grounding'])
            box = ' '.join(f'{value:.1f}' for value in one['grounding']['bbox'])
            score = one['grounding']['score']
            lines.append(f'    {one["score"]:.3f}  {one["name"]}: box {box}, score {score:.3f}')
    assert done.out.splitlines()[-7:] == [*lines, f'written to {tmp_path / "out"}']
    with Image.open(tmp_path / 'out/vis/sentence_1.jpg') as sheet:
        assert sheet.width == 2 * 320 + 3 * 10
    done = call_tool(
        *('infer.py', 'search-and-ground', SENTENCES[0], '--store', store, *weights),
        *('--min-object-score', 1.5, '--no-save-pred', '--out-dir', tmp_path / 'out2'),
    )
    assert f'{SENTENCES[0]}: no image' in done.out.splitlines()
    assert not (tmp_path / 'out2/predictions.json').exists()


def test_errors_from_the_shell(call_tool, files, tmp_path):
    def error(*arguments, sentence='a star') -> str:
        done = call_tool('infer.py', 'search-and-ground', sentence, *arguments, rc=1)
        assert len(done.err.splitlines()) == 1
        return done.err.strip()

    search = ('--search-weights', files / 'rvse.pth', '--device', 'cpu')
    ground = ('--ground-weights', files / 'plvl.pth')
    assert error() == 'error: neither --search-weights nor --search-model: give a checkpoint'
    picture = files / 'photos/0.png'
    assert error(*search, *ground, sentence=picture) == (
        f'error: {picture}: an image; what is searched and grounded is a sentence'
    )
    none = tmp_path / 'none'
    assert error(*search, *ground, '--store', none) == (
        f'error: store {none}: does not exist; index something first'
    )
    (tmp_path / 'photos').mkdir()
    gone = tmp_path / 'photos/gone.png'
    gone.write_bytes((files / 'photos/0.png').read_bytes())
    store = tmp_path / 'store'
    RetrievalInferencer(weights=files / 'rvse.pth', device='cpu').index(gone.parent, store)
    assert error(*search, '--store', store) == (
        'error: neither --ground-weights nor --ground-model: give a checkpoint'
    )
    gone.unlink()
    assert error(*search, *ground, '--store', store) == (
        f"error: {gone}: in the index, but no such image (found for 'a star'); put it back, "
        'work in the folder in which it was indexed, or `prune` the store'
    )


def test_sheet_of_any_number_of_objects(files):
    """Every box is drawn; where nothing fits, nothing is drawn."""
    name = str(files / 'photos/0.png')
    boxes = [[5.0, 5.0, 25.0, 25.0], [35.0, 30.0, 60.0, 60.0]]
    nothing = dict(image=name, sentence='x', score=0.1, found=False, bboxes=[], scores=[])
    found = dict(nothing, score=0.9, found=True, bboxes=boxes, scores=[0.8, 0.7])

    def sheet(grounding):
        hits = [dict(name=name, score=0.5, grounding=grounding)]
        return draw_hits(dict(query='x', hits=hits)).astype(int)

    drawn, empty = sheet(found), sheet(nothing)
    assert drawn.shape == empty.shape
    like = np.abs(drawn - PRED_COLOR).max(axis=2) < 12
    rows, columns = np.nonzero(like)
    assert columns.max() - columns.min() > 200  # of 320 pixels: from the first box to the second
    assert not (np.abs(empty - PRED_COLOR).max(axis=2) < 12).sum() > 50
