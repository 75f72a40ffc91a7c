"""Let images with made-up labels stand in for the data of a config that is not at hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import nn

from ..errors import InputError
from ..files.annotation_files import is_utf8
from ..files.images import images_in
from ..hooks.class_check_hook import heads_in_config
from .made_up import MadeUp, made_up_dataset, prepare
from .report import Options, Report
from .terms import undisturbed

__all__ = ['provide_data']


def provide_data(run: Config, options: Options, folder: Path, report: Report) -> bool:
    """Check that the training data can be read, and make up labels if it is missing.

    Args:
        run: The config, whose data sets are replaced in place.
        options: See :class:`.Options`.
        folder: Folder for the made-up data.
        report: Notes are added to its findings.

    Returns:
        Whether labels were made up.

    Raises:
        ValueError: The data is missing and there are no images to make up labels for.
    """
    try:
        dataset = DATASETS.build(copy.deepcopy(run.train_dataloader.dataset))
        with undisturbed(nn.Identity()):
            dataset[0]
    except (FileNotFoundError, NotADirectoryError) as error:
        if options.images is None:
            raise InputError(
                f'{error}; --images DIR judges the recipe on images of yours with made-up labels'
            ) from error
    except Exception:  # for example a sample that a hook completes; training will tell
        return False
    else:
        return False
    prepare(run, report.findings)
    images = [path.absolute() for path in images_in(options.images)]
    if not images:
        raise InputError(f'--images {options.images}: no image in it')
    if (strange := next((path for path in images if not is_utf8(str(path))), None)) is not None:
        raise InputError(f'--images: {str(strange)!r} is no name in UTF-8')
    report.findings.note(
        f"the config's data is absent: {len(images)} images with made-up labels stand in for it"
    )
    count = (run.train_dataloader.get('batch_size') or 1) * (options.steps + 1)
    number = next(iter(heads_in_config(run.model).values()), 1)
    folder = folder / 'data'
    folder.mkdir()
    made = MadeUp(images, folder, count, number)
    run.train_dataloader.dataset = made_up_dataset(_plain(run.train_dataloader.dataset), made)
    if run.get('val_dataloader') is not None:
        made = MadeUp(images, folder, min(4, len(images)), number)
        run.val_dataloader.dataset = made_up_dataset(_plain(run.val_dataloader.dataset), made)
        written = sorted(folder.glob('*_instances.json'))
        evaluators = run.val_evaluator
        for each in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
            if written and each.get('ann_file'):
                each.ann_file = str(written[-1])
    return True


def _plain(node: Any) -> Any:
    return node.to_dict() if hasattr(node, 'to_dict') else dict(node)
