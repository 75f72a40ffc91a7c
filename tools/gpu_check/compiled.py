"""``torch.compile`` of the losses: graph breaks, and equal losses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
import torch._dynamo
from torch.utils._python_dispatch import _disable_current_modes

from . import samples
from .report import Context, Finding, check

# PDSL's host reads how many proposals are foreground, chooses seeds and waits for their masks.
# Every function in which another one breaks counts as well: three, one and two.
BREAKS = {'plvl': 2, 'pdsl': 6, 'rvse': 2}


def losses(project: str, context: Context) -> Iterator[Finding]:
    """Compile ``forward(mode='loss')`` and count graph breaks.

    They do not depend on the device: on the pretended GPU, whose values no compiler sees, this runs
    on the CPU, without a backend.
    """
    torch._dynamo.reset()
    torch._dynamo.config.allow_rnn = True  # as tools/train.py does
    modes = _disable_current_modes() if context.pretended else contextlib.nullcontext()
    device, backend = ('cpu', 'eager') if context.pretended else ('cuda', 'inductor')
    with modes:
        cfg = samples.config(project, context.work_dir)
        model = samples.build(cfg, device).train()
        data = samples.tokenized(model, samples.batch(project, context.work_dir))
        prepared = model.data_preprocessor(data, True)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        samples.seed_everything(2)
        expected = model(**prepared, mode='loss')
        model.load_state_dict(before)
        explained = torch._dynamo.explain(model)(**prepared, mode='loss')
        reasons = '; '.join(str(r.reason).splitlines()[0] for r in explained.break_reasons[:3])
        advice = f'graph breaks: {reasons}' if reasons else None
        yield Finding('graph breaks', explained.graph_break_count, BREAKS[project], advice)
        model.load_state_dict(before)
        samples.seed_everything(2)
        found = torch.compile(model, backend=backend)(**prepared, mode='loss')
        worst = max(
            abs(float(found[key].detach()) - float(x.detach())) for key, x in expected.items()
        )
        yield Finding('difference of the losses', worst, 1e-3)
    torch._dynamo.reset()


for _project in samples.PROJECTS:
    check(
        f'compile/{_project}',
        'train without --cfg-options compile=True; TORCH_LOGS=graph_breaks names the lines',
    )(partial(losses, _project))
