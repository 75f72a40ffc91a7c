# %% [markdown]
# # PLVL: find and segment the object that a sentence names
#
# In visual grounding, an image and a sentence give a box (REC) and a mask (RES). This notebook
# uses a small model, trained by `make quickstart` on synthetic scenes: it runs the model, looks
# inside, trains it briefly and evaluates it.

# %%
import json
import os
import sys
import textwrap
import warnings
from pathlib import Path

ROOT = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / 'configs/plvl').is_dir())
os.chdir(ROOT)  # the paths below are relative to the checkout
sys.path.insert(0, str(ROOT))
warnings.filterwarnings('ignore', message='IProgress')  # progress is printed

# %% tags=["parameters"]
CONFIG = 'configs/plvl/plvl_tiny_1xb16-3k_scenes.py'
WEIGHTS = None  # a checkpoint; None uses the quick start's
SCENES = 'work_dirs/quickstart/scenes'
WORK_DIR = 'work_dirs/notebooks/plvl'
ITERATIONS = 30

# %%
found = sorted(Path('work_dirs/quickstart/plvl').glob('best_*.pth'))
if WEIGHTS is None and not found:
    raise FileNotFoundError('no trained model: `make quickstart PROJECT=plvl` makes one')
WEIGHTS = str(WEIGHTS or found[-1])
os.environ['SCENES_ROOT'] = str(SCENES)  # the config reads it

# %% [markdown]
# ## The data
#
# A sample consists of an image, one sentence, and the box and mask of the object that the sentence
# names.

# %%
import cv2
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from mmengine.config import Config
from mmengine.registry import DATASETS, VISUALIZERS, init_default_scope
from PIL import Image

import projects.plvl.register  # noqa: F401  registers the project's classes

cfg = Config.fromfile(CONFIG)
init_default_scope(cfg.default_scope)
dataset = DATASETS.build(cfg.test_dataloader.dataset)
visualizer = VISUALIZERS.build(dict(cfg.visualizer, vis_backends=[]))
print(f'{len(dataset)} sentences')


def picture_of(sample):
    """Read the image of a data sample as (H, W, 3) RGB."""
    return cv2.cvtColor(cv2.imread(sample.img_path), cv2.COLOR_BGR2RGB)


for index in np.linspace(0, len(dataset), 3, endpoint=False).astype(int):
    sample = dataset[int(index)]['data_samples']
    display(Image.fromarray(visualizer.draw(picture_of(sample), sample)))

# %% [markdown]
# ## Predict
#
# `GroundingInferencer` accepts paths, arrays or PIL images. Sentences about the same image share
# the part of the computation that depends on the image alone.

# %%
from projects.plvl import GroundingInferencer

inferencer = GroundingInferencer(weights=WEIGHTS, show_progress=False)
path = dataset.get_data_info(0)['img_path']
infos = (dataset.get_data_info(i) for i in range(len(dataset)))
sentences = [info['text'] for info in infos if info['img_path'] == path][:3]
result = inferencer(path, sentences, return_vis=True, return_datasamples=True)
for picture in result['visualization']:
    display(Image.fromarray(picture))

# %%
# the format that `tools/infer.py grounding` writes
prediction = inferencer.pred2dict(result['predictions'][0])
print(json.dumps(prediction, indent=1))

# %% [markdown]
# ## Look inside
#
# The head scores every cell of a map as the centre of the object; the box is read where the score
# is highest, and the mask is predicted alongside. With another sentence the peak moves: the image
# is the same, so the difference is due to the language.

# %%
samples = result['predictions']
figure, axes = plt.subplots(
    1, len(samples), figsize=(4 * len(samples), 4.6), squeeze=False, layout='constrained'
)
for axis, sample in zip(axes[0], samples):
    scores = sample.pred_score_map.cpu().numpy()
    height, width = scores.shape
    axis.imshow(picture_of(sample), extent=(0, width, height, 0))
    # A cell stands for the centres that round to it, so it lies around its upper left corner.
    around = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(scores, extent=around, cmap='turbo', alpha=0.55, vmin=0, interpolation='bilinear')
    title = textwrap.fill(f'{sample.text}: {scores.max():.2f}', 34)
    axis.set(title=title, xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
display(figure)
plt.close(figure)

# %% [markdown]
# ## Train a little, with an override
#
# This is equivalent to `tools/train.py CONFIG --cfg-options train_cfg.max_iters=30 ...`. Overrides
# change the config, and a key that has no effect is refused. Training starts from random weights,
# without the warm-up of the full schedule.

# %%
from projects.common.cli.overrides import check_cfg_options
from projects.common.cli.run import build_runner, prepare

overrides = {
    'train_cfg.max_iters': ITERATIONS,
    'train_cfg.val_interval': ITERATIONS + 1,  # no validation during training
    'param_scheduler': [],
    'optim_wrapper.optimizer.lr': 1e-3,
    'default_hooks.logger.interval': 1,
    'randomness.seed': 0,
}
cfg = Config.fromfile(CONFIG)
check_cfg_options(cfg, overrides)
cfg.merge_from_dict(overrides)
cfg.log_level = 'WARNING'
prepare(cfg, CONFIG, launcher='none', work_dir=WORK_DIR)
runner = build_runner(cfg)
trained = runner.train()

# %%
log = Path(runner.log_dir, 'vis_data/scalars.json').read_text().splitlines()
steps = [step for step in map(json.loads, log) if 'loss' in step]
figure, axis = plt.subplots(figsize=(6, 3), layout='constrained')
for name in sorted(key for key in steps[0] if 'loss' in key):
    axis.plot([step['step'] for step in steps], [step[name] for step in steps], label=name)
axis.set(xlabel='iteration', title='losses, mean of the last 50 iterations')
axis.legend(fontsize=8)
display(figure)
plt.close(figure)

# %% [markdown]
# ## Evaluate
#
# Evaluate the trained model on all test sentences, as `tools/test.py CONFIG CHECKPOINT` does: box
# accuracy at IoU 0.5 by kind of sentence, and the mean and overall IoU of masks, in percent.

# %%
cfg = Config.fromfile(CONFIG)
cfg.load_from = WEIGHTS
cfg.log_level = 'WARNING'
prepare(cfg, CONFIG, launcher='none', work_dir=f'{WORK_DIR}/test')
metrics = build_runner(cfg).test()
for name, value in metrics.items():
    print(f'{name:35}{value:8.2f}')
