"""Every tab in a real browser: load, upload, run, see the result, nothing in the console."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SENTENCE = 'the red circle'
FLAGS = (
    '--no-sandbox', '--disable-gpu', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--no-first-run',
)  # fmt: skip
TABS = (
    'Sentence → box and mask',
    'Image → instances',
    'Sentence ↔ images',
    'Search and ground',
)
WAIT = 20_000  # milliseconds; the machine may be busy


@pytest.fixture(scope='module')
def browser():
    path = shutil.which('chromium') or shutil.which('chromium-browser')
    if path is None:
        reason = 'no chromium on PATH (on Debian: apt install chromium)'
        if os.environ.get('MMTRIAD_REQUIRE_BROWSER') == '1':
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, url):
    """The loaded page; at the end nothing was complained of and no other host was asked."""
    page = browser.new_page(viewport=dict(width=1280, height=1000))
    page.set_default_timeout(WAIT)
    complaints = []
    page.on(
        'console',
        lambda m: complaints.append(m.text) if m.type == 'error' else None,
    )
    page.on('pageerror', lambda error: complaints.append(f'uncaught: {error}'))
    page.on(
        'response',
        lambda r: complaints.append(f'{r.status} {r.url}') if r.status >= 400 else None,
    )
    page.on(
        'request',
        lambda r: None if r.url.startswith((url, 'data:', 'blob:')) else complaints.append(r.url),
    )
    page.goto(url)
    page.get_by_role('tab').first.wait_for()
    yield page
    page.close()
    assert complaints == []


def open_tab(page, number: int):
    tab = page.get_by_role('tab', name=TABS[number])
    tab.click()
    panel = page.locator('div[role=tabpanel]:visible')
    panel.locator('button.primary').first.wait_for()
    return panel


def upload(panel, path: Path) -> None:
    panel.locator('input[type=file]').set_input_files(path)
    panel.locator('img[src*="/gradio_api/file="]').first.wait_for()


def results(panel) -> list[list[str]]:
    """The texts of the table of answers, row by row."""
    panel.locator('table.answers').wait_for()
    rows = panel.locator('table.answers tr').all()[1:]
    return [row.locator('td').all_inner_texts() for row in rows]


def shown_picture(page, locator) -> np.ndarray:
    """What an <img> shows, decoded."""
    locator.wait_for()
    body = page.request.get(locator.get_attribute('src')).body()
    return np.asarray(Image.open(io.BytesIO(body)).convert('RGB'))


def alike(first: np.ndarray, second: np.ndarray) -> bool:
    """The same but for WebP's losses."""
    return first.shape == second.shape and np.abs(first.astype(int) - second).mean() < 8


def test_sentence_to_box_and_mask(page, answers, photos):
    panel = open_tab(page, 0)
    upload(panel, photos / '1.png')
    panel.get_by_label('Sentence').first.fill(SENTENCE)
    panel.get_by_role('button', name='Find it').click()
    drawn, prediction = answers.ground(Image.open(photos / '1.png'), SENTENCE)
    box = ', '.join(f'{value:.0f}' for value in prediction['bbox'])
    assert results(panel) == [[SENTENCE, f'{prediction["score"]:.3f}', box]]
    assert alike(shown_picture(page, panel.locator('.image-frame img').last), drawn)
    assert panel.get_by_text('How to read it.').is_visible()


def test_picture_to_instances(page, answers, photos):
    panel = open_tab(page, 1)
    upload(panel, photos / '2.png')
    panel.get_by_role('button', name='Find the objects').click()
    drawn, prediction = answers.instances(Image.open(photos / '2.png'), 0.1)
    kept = [n for n, s in zip(prediction['classes'], prediction['scores']) if s >= 0.1]
    assert kept
    assert [row[0] for row in results(panel)] == kept
    assert alike(shown_picture(page, panel.locator('.image-frame img').last), drawn)


def test_sentence_and_pictures(page, answers, photos):
    panel = open_tab(page, 2)
    panel.get_by_label('Sentence').first.fill(SENTENCE)
    panel.get_by_label('Sentence').first.press('Enter')
    hits = answers.images(SENTENCE, 6)
    captions = panel.locator('.caption-label')
    captions.nth(len(hits) - 1).wait_for()
    assert [text.strip() for text in captions.all_inner_texts()] == [
        f'{hit.score:.3f} · {Path(hit.name).name}' for hit in hits
    ]
    upload(panel, photos / '3.png')
    panel.get_by_role('button', name='captions').click()
    hits = answers.captions(Image.open(photos / '3.png'), 5)
    assert results(panel) == [[f'{hit.score:.3f}', hit.name] for hit in hits]


def test_search_and_ground(page, answers):
    panel = open_tab(page, 3)
    panel.get_by_label('Sentence').first.fill(SENTENCE)
    panel.get_by_role('button', name='and ground').click()
    sheet, prediction = answers.search_and_ground(SENTENCE, 5)
    names = [hit['name'] for hit in prediction['hits']]
    assert [row[0] for row in results(panel)] == names
    assert alike(shown_picture(page, panel.locator('.image-frame img').last), sheet)


def test_an_example_runs_at_a_click(page, answers, scenes):
    panel = open_tab(page, 0)
    sentence = scenes.sentences(0)[2]
    panel.get_by_text(sentence).click()
    _, prediction = answers.ground(Image.open(scenes.images[0]), sentence)
    assert results(panel)[0][:2] == [sentence, f'{prediction["score"]:.3f}']


def test_what_is_typed_is_shown_as_it_is(page, photos):
    """Neither HTML nor gradio's templates in a sentence come alive."""
    typed = '<b>${1 + 1}</b> {{title}} <img src=x onerror=alert(1)>'
    panel = open_tab(page, 0)
    upload(panel, photos / '1.png')
    panel.get_by_label('Sentence').first.fill(typed)
    panel.get_by_role('button', name='Find it').click()
    assert results(panel)[0][0] == typed


def test_errors_are_shown(page, photos):
    panel = open_tab(page, 0)
    panel.get_by_role('button', name='Find it').click()
    page.get_by_text('Please give an image first.').wait_for()
    panel.locator('input[type=file]').set_input_files(photos / 'damaged.png')
    panel.locator('img[src*="/gradio_api/file="]').first.wait_for(state='attached')
    panel.get_by_label('Sentence').first.fill(SENTENCE)
    panel.get_by_role('button', name='Find it').click()
    page.get_by_text('The image is damaged or cut off').wait_for()
