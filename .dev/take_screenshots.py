"""Take the screenshots of the web demo in docs/images with a headless Chromium.

python .dev/take_screenshots.py docs/images

The demo runs on the models of demo/models and answers examples of its page. Chromium has to be on
PATH.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 1280  # pixels
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='folder of the images')
    args = parser.parse_args()
    models = [f'--{name}={ROOT}/demo/models/{name}-scenes' for name in ('plvl', 'pdsl', 'rvse')]
    command = [sys.executable, str(ROOT / 'demo/web.py'), *models, '--device', 'cpu']
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        url = next(line.split()[1] for line in server.stdout if line.startswith('open '))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which('chromium'), args=['--no-sandbox', '--disable-gpu']
            )
            for name, (tab, examples) in VIEWS.items():
                page = browser.new_page(viewport=dict(width=WIDTH, height=900))
                page.set_default_timeout(WAIT)
                page.goto(url)
                image = Image.open(io.BytesIO(take(page, tab, examples))).convert('RGB')
                image.save(args.folder / f'{name}.jpg', quality=78, optimize=True, progressive=True)
                print(f'{args.folder / name}.jpg: {image.width} x {image.height}')
                page.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == '__main__':
    main()
