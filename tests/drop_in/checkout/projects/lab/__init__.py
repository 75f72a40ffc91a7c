"""The package of a lab that works in its checkout of mmdet: here a hook that writes what ran."""

import importlib
import json
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


def kind(thing: object) -> str:
    return f'{type(thing).__module__}.{type(thing).__name__}'


@HOOKS.register_module()
class LabWhatRanHook(Hook):
    """Writes ``what_ran.json``: where packages lie, and the classes of models, data, loops."""

    def before_run(self, runner) -> None:
        packages = ('mmdet', 'mmpretrain', 'projects.lab', *runner.cfg.custom_imports.imports)
        self.ran = dict(
            packages={name: importlib.import_module(name).__file__ for name in packages},
            classes={kind(module) for module in runner.model.modules()},
        )

    def before_train(self, runner) -> None:
        self.write(runner, runner.train_loop)

    def before_val(self, runner) -> None:
        self.write(runner, runner.val_loop)

    def before_test(self, runner) -> None:
        self.write(runner, runner.test_loop)

    def write(self, runner, loop) -> None:
        self.ran['classes'] |= {kind(loop), kind(loop.dataloader.dataset)}
        if hasattr(loop, 'evaluator'):
            self.ran['classes'] |= {kind(metric) for metric in loop.evaluator.metrics}
        content = {**self.ran, 'classes': sorted(self.ran['classes'])}
        Path(runner.work_dir, 'what_ran.json').write_text(json.dumps(content))
