"""Batches hold several sentences about the same image."""

from __future__ import annotations

from itertools import islice

import pytest

from projects.common.errors import InputError
from projects.plvl.datasets import SameImageSampler

IMAGES = ['a', 'b', 'a', 'c', 'a', 'b', 'd', 'd', 'd', 'd']  # of sentences 0 to 9


class Sentences:
    def __len__(self) -> int:
        return len(IMAGES)

    def get_data_info(self, index: int) -> dict:
        return dict(img_path=IMAGES[index])


def draw(count, **options):
    return list(islice(SameImageSampler(Sentences(), seed=3, **options), count))


def test_a_pass_visits_every_image_once_with_different_sentences():
    drawn = draw(24, sentences_per_image=3)
    for start in (0, 12):  # two passes
        groups = [drawn[i : i + 3] for i in range(start, start + 12, 3)]
        images = [{IMAGES[index] for index in group} for group in groups]
        assert sorted(map(sorted, images)) == [['a'], ['b'], ['c'], ['d']]
        for group, (image,) in zip(groups, images, strict=True):
            assert len(set(group)) == min(3, IMAGES.count(image))
    assert drawn[:12] != drawn[12:]


def test_processes_together_draw_what_one_draws(monkeypatch):
    whole = draw(24)
    parts = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        parts.append(draw(12))
    assert [index for pair in zip(*parts, strict=True) for index in pair] == whole


def test_resuming_continues_at_the_position():
    sampler = SameImageSampler(Sentences(), seed=3)
    sampler.skip(7)
    assert list(islice(sampler, 9)) == draw(16)[7:]


def test_another_seed_is_another_order():
    other = SameImageSampler(Sentences(), seed=4)
    assert list(islice(other, 16)) != draw(16)


def test_no_sentences_are_one_line():
    with pytest.raises(InputError, match='sentences_per_image: found 0, expected at least 1'):
        draw(1, sentences_per_image=0)


def test_registered():
    from mmengine.registry import DATA_SAMPLERS

    assert DATA_SAMPLERS.get('SameImageSampler') is SameImageSampler
