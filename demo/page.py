"""The page: four tabs on top of `Answers`."""

from __future__ import annotations

import contextlib
import functools
import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from projects.common.files.annotation_files import printable
from projects.common.files.image_reader import as_rgb, open_image

from . import texts
from .answers import MAX_HITS, Answers
from .components import ImageUpload, gr, shown_errors, table
from .examples import ExampleScenes
from .uploads import MAX_CHARACTERS

__all__ = ['build_page']

THUMBNAIL = 320  # pixels
WAITING = 32  # queued requests; any further ones are asked to come back later
BOX = 'Box (x1, y1, x2, y2)'


def build_page(answers: Answers, scenes: ExampleScenes) -> gr.Blocks:
    """Build the page; tabs without a model explain how to get one."""
    with gr.Blocks(title='MMTriad', analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown(texts.INTRODUCTION)
        for title, needed, fill in TABS:
            with gr.Tab(title):
                missing = [name for name in needed if name in answers.missing]
                if missing:
                    gr.Markdown(texts.missing_model(missing))
                else:
                    fill(answers, scenes)
    return page.queue(max_size=WAITING, api_open=False)


# --------------------------------------------------------------------------------------- tabs


def _ground_tab(answers: Answers, scenes: ExampleScenes) -> None:
    def ask(picture: Image.Image, sentence: str) -> tuple:
        drawn, prediction = answers.ground(picture, sentence)
        return drawn, table(['Sentence', 'Score', BOX], _found(prediction)), prediction

    gr.Markdown(texts.GROUND_HELP_ANY if answers.any_number else texts.GROUND_HELP)
    with gr.Row():
        with _left():
            inputs = [_picture(), _sentence('the red circle on the left')]
            button = gr.Button('Find it', variant='primary')
            examples = gr.Column()
        with _right():
            drawn = _drawing()
            gr.HTML(texts.GROUND_LEGEND)
            outputs = [drawn, gr.HTML(), _json()]
    chosen = ((0, 2), (3, 0), (5, 1), (8, 0))  # (image, sentence about it)
    rows = [[scenes.images[i], scenes.sentences(i)[j]] for i, j in chosen]
    if answers.any_number:
        rows += [[scenes.images[i], scenes.set_sentences(i)[j]] for i, j in ((0, 0), (1, -1))]
    _bind('ground', ask, button, inputs, outputs, examples, rows)


def _weak_tab(answers: Answers, scenes: ExampleScenes) -> None:
    def ask(picture: Image.Image, least_score: float) -> tuple:
        drawn, prediction = answers.instances(picture, least_score)
        found = zip(prediction['classes'], prediction['scores'], prediction['bboxes'])
        rows = [
            [name, f'{score:.3f}', _box(dict(bbox=bbox))]
            for name, score, bbox in found
            if score >= least_score
        ]
        return drawn, table(['Class', 'Score', BOX], rows), prediction

    gr.Markdown(texts.WEAK_HELP)
    with gr.Row():
        with _left():
            inputs = [_picture(), gr.Slider(0, 1, 0.1, step=0.05, label='Least score')]
            button = gr.Button('Find the objects', variant='primary')
            examples = gr.Column()
        with _right():
            drawn = _drawing(height=440)
            gr.HTML(texts.WEAK_LEGEND)
            outputs = [drawn, gr.HTML(), _json()]
    rows = [[scenes.images[i]] for i in (1, 2, 4, 6)]
    _bind('instances', ask, button, inputs, outputs, examples, rows)


def _search_tab(answers: Answers, scenes: ExampleScenes) -> None:
    def images(sentence: str, count: int) -> tuple:
        hits = answers.images(sentence, count)
        _warn_of_unknown_words(answers.unknown_words(sentence))
        names = [printable(Path(h.name).name) for h in hits]
        shown = [(_thumbnail(h.name), f'{h.score:.3f} · {n}') for h, n in zip(hits, names)]
        return shown, [dict(name=n, score=h.score) for h, n in zip(hits, names)]

    def captions(picture: Image.Image, count: int) -> tuple:
        hits = answers.captions(picture, count)
        rows = [[f'{hit.score:.3f}', hit.name] for hit in hits]
        return table(['Cosine', 'Caption'], rows), [hit.as_dict() for hit in hits]

    gallery = answers.gallery
    gr.Markdown(texts.SEARCH_HELP)
    with gr.Row():
        with _left():
            first = (gallery.queries or ['a large yellow heart above a red heart'])[0]
            asked = [_sentence(first), _count(6)]
            find = gr.Button(f'Search {len(gallery.images)} images', variant='primary')
            texts_to_click = gr.Column()
        with _right():
            found = gr.Gallery(
                show_label=False,
                columns=3,
                height=480,
                object_fit='contain',
                buttons=['fullscreen'],
            )
            hits = _json('')
    sentences = gallery.queries or [scenes.captions[i] for i in (0, 14, 40)]
    rows = [[sentence] for sentence in sentences]
    _bind('find_pictures', images, find, asked, [found, hits], texts_to_click, rows)
    with gr.Row():
        with _left():
            shown = [_picture(), _count(5)]
            describe = gr.Button(f'Search {len(gallery.captions)} captions', variant='primary')
            pictures_to_click = gr.Column()
        with _right():
            outputs = [gr.HTML(), _json('')]
    shown_images = [scenes.images[i] for i in (0, 9, 12)]
    if gallery.queries:  # photographs
        shown_images = [Path(name) for name in gallery.images.names()[:3]]
    rows = [[path] for path in shown_images]
    _bind('find_captions', captions, describe, shown, outputs, pictures_to_click, rows)


def _both_tab(answers: Answers, scenes: ExampleScenes) -> None:
    def ask(sentence: str, count: int) -> tuple:
        sheet, prediction = answers.search_and_ground(sentence, count)
        _warn_of_unknown_words(answers.unknown_words(sentence))
        rows = [
            [
                hit['name'],
                f'{hit["score"]:.3f}',
                f'{hit["grounding"]["score"]:.3f}',
                '; '.join(place for _, _, place in _found(hit['grounding'])),
            ]
            for hit in prediction['hits']
        ]
        return sheet, table(['Image', 'Cosine', 'Object score', BOX], rows), prediction

    gr.Markdown(texts.BOTH_HELP)
    with gr.Row():
        with _left():
            inputs = [_sentence((answers.gallery.queries or ['the blue heart'])[0]), _count(5)]
            count = len(answers.gallery.images)
            button = gr.Button(f'Search {count} images and ground', variant='primary')
            examples = gr.Column()
        with _right():
            sheet = _drawing()
            gr.HTML(texts.BOTH_LEGEND)
            outputs = [sheet, gr.HTML(), _json()]
    of_scenes = (
        'the striped green circle',
        'the orange triangle',
        'the red star',
        'the blue heart',
    )
    rows = [[sentence] for sentence in answers.gallery.queries or of_scenes]
    _bind('search_and_ground', ask, button, inputs, outputs, examples, rows)


TABS = (  # title, projects whose models it needs, function that builds it
    ('1 · Sentence → box and mask', ('plvl',), _ground_tab),
    ('2 · Image → instances', ('pdsl',), _weak_tab),
    ('3 · Sentence ↔ images', ('rvse',), _search_tab),
    ('4 · Search and ground', ('rvse', 'plvl'), _both_tab),
)

# -------------------------------------------------------------------------------------- parts


def _bind(
    name: str,
    function: Callable,
    button: gr.Button,
    inputs: list,
    outputs: list,
    place: gr.Column,
    rows: list,
) -> None:
    """Run a function on a click, on Enter and on a click on an example."""
    function = shown_errors(function)
    enter = [part.submit for part in inputs if isinstance(part, gr.Textbox)]
    private: dict[str, Any] = dict(api_visibility='private')
    limits: dict[str, Any] = dict(concurrency_limit=1, concurrency_id='models')
    gr.on([button.click, *enter], function, inputs, outputs, api_name=name, **limits)
    with place:
        gr.Markdown('Or click an example:')
        with gr.Row() if isinstance(rows[0][-1], Path) else contextlib.nullcontext():
            for row in rows:
                # gr.Examples occasionally raises uncaught errors in the browser.
                example = _example(row)
                fill = functools.partial(_opened, row)
                filled = example.click(fill, None, inputs[: len(row)], **private)
                filled.then(function, inputs, outputs, **private, **limits)


def _example(row: list[str | Path]) -> gr.Button:
    images = [value for value in row if isinstance(value, Path)]
    sentences = [value for value in row if isinstance(value, str)]
    icon = str(images[0]) if images else None
    classes = ['example'] if sentences else ['example', 'picture']
    text = ' '.join(sentences)
    button = gr.Button(text, icon=icon, size='sm', elem_classes=classes, min_width=80)
    button.keep_in_cache |= button.temp_files  # or the icon vanishes when old files are deleted
    return button


def _opened(row: list[str | Path]) -> list[str | Image.Image] | str | Image.Image:
    """Return an example's values; open its images, because gradio does not serve our paths."""
    values = [open_image(value) if isinstance(value, Path) else value for value in row]
    return values if len(values) > 1 else values[0]


def _left() -> gr.Column:
    return gr.Column(scale=3, min_width=300)


def _right() -> gr.Column:
    return gr.Column(scale=5, min_width=420)


def _picture() -> ImageUpload:
    sources = ['upload', 'clipboard']
    # PNG is lossless: the model sees exactly the example that the page shows.
    return ImageUpload(label='Image', format='png', sources=sources, height=260, buttons=[])


def _sentence(placeholder: str) -> gr.Textbox:
    return gr.Textbox(label='Sentence', placeholder=placeholder, max_length=MAX_CHARACTERS)


def _count(value: int) -> gr.Slider:
    return gr.Slider(1, MAX_HITS, value, step=1, label='How many answers')


def _drawing(**kwargs: Any) -> gr.Image:
    # A label would cover the drawing, which has its own captions.
    return gr.Image(show_label=False, buttons=['fullscreen'], **kwargs)


def _json(note: str = ' (masks in COCO run-length encoding)') -> gr.JSON:
    with gr.Accordion(f'The same as JSON{note}', open=False):
        return gr.JSON(show_label=False)


def _found(prediction: dict) -> list[list[str]]:
    """Return a row for each object found: sentence, score and box."""
    score = f'{prediction["score"]:.3f}'
    if not prediction.get('found', True):
        return [[prediction['sentence'], score, texts.NOTHING_FITS]]
    if 'bboxes' in prediction:  # of a model for any number of objects
        found = zip(prediction['scores'], prediction['bboxes'], strict=True)
        return [[prediction['sentence'], f'{s:.3f}', _box(dict(bbox=box))] for s, box in found]
    return [[prediction['sentence'], score, _box(prediction)]]


def _box(prediction: dict) -> str:
    return ', '.join(f'{value:.0f}' for value in prediction.get('bbox', ()))


def _warn_of_unknown_words(words: list[str]) -> None:
    if words:
        listed = html.escape(', '.join(words))
        gr.Warning(f'The model does not know: {listed}. It answers as well as it can without.')


def _thumbnail(path: str) -> Image.Image:
    with open_image(path) as image:
        return ImageOps.contain(as_rgb(image), (THUMBNAIL, THUMBNAIL))
