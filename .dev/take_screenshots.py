"""Take the screenshots of the web demo in docs/images with a headless Chromium.

python .dev/take_screenshots.py docs/images

The demo runs on the models of demo/models and answers examples of its page, and then searches
photographs of scikit-image and scikit-learn with the weights of requirements/photos.txt. Chromium
has to be on PATH.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from skimage import data
from sklearn.datasets import load_sample_images

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 1280  # pixels
MARGIN = 56  # empty, at either side
WAIT = 120_000  # milliseconds, for a model on a busy machine
# Name of the image: number of the tab, and the numbers of the examples to click, one after another.
VIEWS = {
    'web_grounding': (0, [0]),
    'web_instances': (1, [0]),
    'web_retrieval': (2, [0, 4]),
    'web_search_and_ground': (3, [0]),
}


def take(page: Page, tab: int, examples: list[int]) -> bytes:
    """Return a PNG of the whole page once the examples of a tab are answered."""
    page.get_by_role('tab').nth(tab).click()
    panel = page.locator('div[role=tabpanel]:visible')
    for number in examples:
        with page.expect_response(lambda r: '/queue/data' in r.url):
            panel.locator('button.example').nth(number).click()
        panel.locator('.progress-text, .generating, .eta-bar').first.wait_for(state='hidden')
        page.wait_for_load_state('networkidle')
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)  # animations
    return page.screenshot(full_page=True)


def take_search(page: Page, sentence: str) -> bytes:
    """Return a PNG of the third tab, from its title to the images that a sentence found."""
    page.get_by_role('tab').nth(2).click()
    panel = page.locator('div[role=tabpanel]:visible')
    panel.get_by_label('Sentence').first.fill(sentence)
    panel.get_by_label('Sentence').first.press('Enter')
    panel.locator('.caption-label').nth(5).wait_for()
    page.wait_for_load_state('networkidle')
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)  # animations
    found = panel.locator('.grid-wrap').first.bounding_box()
    top = page.get_by_role('tab').first.bounding_box()['y'] - 8
    bottom = found['y'] + found['height'] + 16
    clip = dict(x=MARGIN, y=top, width=WIDTH - 2 * MARGIN, height=bottom - top)
    return page.screenshot(full_page=True, clip=clip)


def save_photographs(folder: Path) -> None:
    """Save the photographs that scikit-image and scikit-learn bring along."""
    names = ('astronaut', 'camera', 'chelsea', 'coffee', 'coins', 'moon', 'rocket')
    found = {name: getattr(data, name)() for name in names}
    found['motorcycle'] = data.stereo_motorcycle()[0]
    samples = load_sample_images()
    found |= {Path(name).stem: image for name, image in zip(samples.filenames, samples.images)}
    for name, pixels in found.items():
        Image.fromarray(pixels).convert('RGB').save(folder / f'{name}.jpg', quality=92)


@contextlib.contextmanager
def served(browser: Browser, *options: str) -> Iterator[Page]:
    """Serve the demo; yield its page."""
    command = [sys.executable, str(ROOT / 'demo/web.py'), *options, '--device', 'cpu']
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        url = next(line.split()[1] for line in server.stdout if line.startswith('open '))
        page = browser.new_page(viewport=dict(width=WIDTH, height=900))
        page.set_default_timeout(WAIT)
        page.goto(url)
        yield page
        page.close()
    finally:
        server.terminate()
        server.wait()


def save(picture: bytes, path: Path) -> None:
    image = Image.open(io.BytesIO(picture)).convert('RGB')
    image.save(path, quality=78, optimize=True, progressive=True)
    print(f'{path}: {image.width} x {image.height}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='folder of the images')
    parser.add_argument('--only', choices=('scenes', 'photos'), help='default: both')
    args = parser.parse_args()
    plvl, pdsl, rvse = (
        f'--{name}={ROOT}/demo/models/{name}-scenes' for name in ('plvl', 'pdsl', 'rvse')
    )
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as photos:
        browser = playwright.chromium.launch(
            executable_path=shutil.which('chromium'), args=['--no-sandbox', '--disable-gpu']
        )
        if args.only != 'photos':
            with served(browser, plvl, pdsl, rvse) as page:
                for name, (tab, examples) in VIEWS.items():
                    save(take(page, tab, examples), args.folder / f'{name}.jpg')
                    page.reload()
        if args.only != 'scenes':
            save_photographs(Path(photos))
            with served(browser, plvl, pdsl, '--photos', photos) as page:
                save(take_search(page, 'a cat'), args.folder / 'web_photos.jpg')


if __name__ == '__main__':
    main()
