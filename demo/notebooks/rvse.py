# %% [markdown]
# # RVSE++ and SelHN: which caption belongs to which image
#
# Image-text matching embeds images and captions in one space, where matching pairs are close.
# This notebook uses a small model, trained by `make quickstart PROJECT=rvse` on synthetic scenes:
# it runs the model, looks inside, trains it briefly and evaluates it.

# %%
import json
import os
import sys
import warnings
from pathlib import Path

ROOT = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / 'configs/rvse').is_dir())
os.chdir(ROOT)  # the paths below are relative to the checkout
sys.path.insert(0, str(ROOT))
warnings.filterwarnings('ignore', message='IProgress')  # progress is printed

# %% tags=["parameters"]
CONFIG = 'configs/rvse/rvse_tiny_1xb32-3e_scenes.py'
WEIGHTS = None  # a checkpoint; None uses the quick start's
SCENES = 'work_dirs/quickstart/scenes'
WORK_DIR = 'work_dirs/notebooks/rvse'
ITERATIONS = 30
BATCH = 64

# %%
found = sorted(Path('work_dirs/quickstart/rvse').glob('best_*.pth'))
if WEIGHTS is None and not found:
    raise FileNotFoundError('no trained model: `make quickstart PROJECT=rvse` makes one')
WEIGHTS = str(WEIGHTS or found[-1])
os.environ['SCENES_ROOT'] = str(SCENES)  # the config reads it

# %% [markdown]
# ## The data
#
# The data is in COCO's format: images with five captions each.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from mmengine.config import Config
from PIL import Image

content = json.loads(Path(SCENES, 'annotations/captions_test.json').read_text())
paths = {image['id']: f'{SCENES}/images/{image["file_name"]}' for image in content['images']}
captions = {number: [] for number in paths}  # image id -> captions
for entry in content['annotations']:
    captions[entry['image_id']].append(entry['caption'])
print(f'{len(paths)} test images, {sum(map(len, captions.values()))} captions')


def show(pictures, titles):
    """Show images in a row."""
    figure, axes = plt.subplots(
        1, len(pictures), figsize=(2.4 * len(pictures), 2.8), squeeze=False, layout='constrained'
    )
    for axis, path, title in zip(axes[0], pictures, titles):
        axis.imshow(Image.open(path))
        axis.set(xticks=[], yticks=[])
        axis.set_title(title, fontsize=9, parse_math=False)
    display(figure)
    plt.close(figure)


numbers = list(paths)
first = numbers[0]
show([paths[first]], [Path(paths[first]).name])
print(*captions[first], sep='\n')

# %% [markdown]
# ## Search
#
# `index` computes the embeddings of the images once and stores them; a sentence is then compared
# with all of them. A tick marks the image that the caption was written for.

# %%
import projects.rvse.register  # noqa: F401  registers the project's classes
from projects.rvse import RetrievalInferencer

inferencer = RetrievalInferencer(weights=WEIGHTS, show_progress=False)
store = f'{WORK_DIR}/pictures'
inferencer.index(list(paths.values()), store)
for number in numbers[:3]:
    caption = captions[number][0]
    (hits,) = inferencer(caption, store, top_k=5)
    print(caption)
    show(
        [hit.name for hit in hits],
        [f'{hit.score:.2f}{" ✓" if hit.name == paths[number] else ""}' for hit in hits],
    )

# %% [markdown]
# The other direction: captions for an image.

# %%
store = f'{WORK_DIR}/captions'
inferencer.index(sorted({text for texts in captions.values() for text in texts}), store)
(hits,) = inferencer(paths[first], store, top_k=5)
for hit in hits:
    print(f'{hit.score:.2f} {"✓" if hit.name in captions[first] else " "} {hit.name}')

# %% [markdown]
# ## Look inside: similarities and what SelHN makes of them
#
# The cosine similarities of 16 images and their first captions; matching pairs are on the
# diagonal. Delta s is the distance between an image's positive and its hardest negative (Eq. 10).
# Where it is at most eps, the gradients of the two nearly cancel, and SelHN uses all negatives
# instead of the hardest one (Eq. 9).

# %%
from projects.rvse.losses.anchors import both_directions

some = numbers[:16]
images = inferencer.encode_images([paths[number] for number in some])
texts = inferencer.encode_sentences([captions[number][0] for number in some])
similarities = torch.from_numpy(images @ texts.T)
anchors, _ = both_directions(similarities)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout='constrained')
drawn = left.imshow(similarities, cmap='viridis')
left.set(xlabel='caption', ylabel='image', title='similarities')
figure.colorbar(drawn, ax=left)
right.bar(np.arange(len(some)), anchors.delta_s, color='#0072b2')
right.axhline(0.01, color='#d55e00', label='eps = 0.01')
right.set(xlabel='image', title='delta s')
right.legend()
display(figure)
plt.close(figure)
first_is_right = (similarities.argmax(1) == torch.arange(len(some))).float().mean()
print(f'of 16 captions the right one is the first for {100 * first_is_right:.0f} % of the images')

# %% [markdown]
# An image is a grid of cells and a caption is a sequence of words. GPO pools either into a vector:
# it sorts each channel and weights the ranks, with weights learned for each size of the set. Equal
# weights amount to mean pooling; all the weight on the first rank amounts to max pooling, which
# the quick start's model has come close to.

# %%
model = inferencer.model
figure, axis = plt.subplots(figsize=(6, 3), layout='constrained')
with torch.no_grad():
    for name, encoder, size in (
        ('16 cells', model.image_encoder, 16),
        ('12 words', model.text_encoder, 12),
    ):
        weights = encoder.gpool.pool_weights(torch.tensor([size]), size)[0]
        axis.plot(np.linspace(0, 1, size), size * weights.cpu(), label=name)
axis.axhline(1, color='grey', linewidth=0.8)
axis.set(xlabel='rank, from the largest value to the smallest', ylabel='weight, 1 as in the mean')
axis.legend()
display(figure)
plt.close(figure)

# %% [markdown]
# ## Train a little, with an override
#
# This is equivalent to `tools/train.py CONFIG --cfg-options model.loss.eps=0.1 ...`: SelHN with
# another threshold, from random weights, without the warm-up epoch of the Triplet loss alone.
# `triplet_share` is the share of anchors that use all negatives.

# %%
from projects.common.cli.overrides import check_cfg_options
from projects.common.cli.run import build_runner, prepare

cfg = Config.fromfile(CONFIG)
cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=ITERATIONS + 1)
overrides = {
    'model.loss.eps': 0.1,
    'train_dataloader.batch_size': BATCH,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'param_scheduler': [],
    'default_hooks.checkpoint.by_epoch': False,
    'default_hooks.checkpoint.interval': ITERATIONS,
    'default_hooks.logger.interval': 1,
    'log_processor.by_epoch': False,
    'randomness.seed': 0,
}
check_cfg_options(cfg, overrides)
cfg.merge_from_dict(overrides)
cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'] != 'LossWarmUpHook']
cfg.log_level = 'WARNING'
prepare(cfg, CONFIG, launcher='none', work_dir=WORK_DIR)
runner = build_runner(cfg)
trained = runner.train()

# %%
log = Path(runner.log_dir, 'vis_data/scalars.json').read_text().splitlines()
steps = [step for step in map(json.loads, log) if 'loss' in step]
figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout='constrained')
for axis, name in zip(axes, ('loss', 'delta_s', 'triplet_share')):
    axis.plot([step['step'] for step in steps], [step[name] for step in steps])
    axis.set(xlabel='iteration', title=name)
display(figure)
plt.close(figure)

# %% [markdown]
# ## Evaluate
#
# Evaluate the trained model on all test images and captions, as `tools/test.py CONFIG CHECKPOINT`
# does: recall of captions for an image (i2t) and of images for a caption (t2i), in percent, and
# their sum.

# %%
cfg = Config.fromfile(CONFIG)
cfg.load_from = WEIGHTS
cfg.log_level = 'WARNING'
prepare(cfg, CONFIG, launcher='none', work_dir=f'{WORK_DIR}/test')
metrics = build_runner(cfg).test()
for name, value in metrics.items():
    print(f'{name:25}{value:8.2f}')
