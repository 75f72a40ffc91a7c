# %% [markdown]
# # PDSL: instances from tags alone
#
# Training knows only which classes are in an image; it learns the boxes and masks of instances.
# This notebook uses a small model, trained by `make quickstart PROJECT=pdsl` on synthetic scenes:
# it runs the model, looks inside, trains it briefly and evaluates it.

# %%
import json
import os
import sys
import warnings
from pathlib import Path

ROOT = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / 'configs/pdsl').is_dir())
os.chdir(ROOT)  # the paths below are relative to the checkout
sys.path.insert(0, str(ROOT))
warnings.filterwarnings('ignore', message='IProgress')  # progress is printed

# %% tags=["parameters"]
CONFIG = 'configs/pdsl/pdsl_tiny_1xb4-600_scenes.py'
WEIGHTS = None  # a checkpoint; None uses the quick start's
SCENES = 'work_dirs/quickstart/pdsl_scenes'  # with proposals
WORK_DIR = 'work_dirs/notebooks/pdsl'
ITERATIONS = 20

# %%
found = sorted(Path('work_dirs/quickstart/pdsl').glob('best_*.pth'))
if WEIGHTS is None and not found:
    raise FileNotFoundError('no trained model: `make quickstart PROJECT=pdsl` makes one')
WEIGHTS = str(WEIGHTS or found[-1])
os.environ['SCENES_ROOT'] = str(SCENES)  # the config reads it

# %% [markdown]
# ## The data
#
# Left: a training sample with its tags and its proposals, boxes that Selective Search derives from
# colour and texture (the first 60 are shown). Right: the ground truth of a test image, which only
# the evaluation reads.

# %%
import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, VISUALIZERS, init_default_scope
from mmengine.structures import InstanceData

import projects.pdsl.register  # noqa: F401  registers the project's classes

cfg = Config.fromfile(CONFIG)
init_default_scope(cfg.default_scope)
training = DATASETS.build(cfg.train_dataloader.dataset)
testing = DATASETS.build(cfg.test_dataloader.dataset)
classes = testing.metainfo['classes']
visualizer = VISUALIZERS.build(dict(cfg.visualizer, vis_backends=[]))
visualizer.dataset_meta = testing.metainfo
print(f'{len(training)} training images with tags, {len(testing)} test images with masks')


def picture_of(path):
    """Read an image as (H, W, 3) RGB."""
    return cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)


def show(pictures, titles):
    """Show images in a row."""
    figure, axes = plt.subplots(
        1, len(pictures), figsize=(4 * len(pictures), 4.4), squeeze=False, layout='constrained'
    )
    for axis, picture, title in zip(axes[0], pictures, titles):
        axis.imshow(picture)
        axis.set(title=title, xticks=[], yticks=[])
    display(figure)
    plt.close(figure)


sample = training[0]['data_samples']
with_boxes = cv2.resize(picture_of(sample.img_path), (400, 400), interpolation=cv2.INTER_CUBIC)
for x1, y1, x2, y2 in (sample.ori_proposals[:60] * 400 / 128).astype(int):
    cv2.rectangle(with_boxes, (x1, y1), (x2, y2), (255, 122, 0), 1)
tags = ', '.join(classes[tag] for tag in sample.tags)
truth = testing[0]['data_samples']
drawn = visualizer.draw(picture_of(truth.img_path), truth)
show([with_boxes, drawn], [f'training: {tags}', 'test: truth'])

# %% [markdown]
# ## Predict
#
# `WeakInstanceInferencer` generates the proposals for an image on the fly. `min_side=8` is the
# value the quick start used for its training proposals.

# %%
from projects.pdsl import WeakInstanceInferencer

inferencer = WeakInstanceInferencer(
    weights=WEIGHTS, show_progress=False, proposal_options=dict(min_side=8)
)
paths = [testing.get_data_info(i)['img_path'] for i in range(min(3, len(testing)))]
result = inferencer(paths, return_vis=True)
show(result['visualization'], [Path(path).name for path in paths])
for prediction in result['predictions']:
    found = zip(prediction['classes'], prediction['scores'])
    print(', '.join(f'{name} {score:.2f}' for name, score in found if score >= 0.3))

# %% [markdown]
# ## Look inside: from tags to boxes to masks
#
# Each proposal gets a probability for each class. Their sum over a pixel shows where the evidence
# for a class lies. This is all that tags can teach, and the best proposals become the pseudo
# ground truth for boxes.

# %%
model = inferencer.model
packed = testing[0]
data = model.data_preprocessor(
    dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]), False
)
proposals = [data['data_samples'][0].proposals.to(data['inputs'].device)]
with torch.no_grad():
    features = model.extract_feat(data['inputs'])
    ((probabilities, _, present),) = model.roi_head.score_proposals(features, proposals)
picture = picture_of(truth.img_path)
boxes = proposals[0].bboxes.cpu().numpy()
heat = np.zeros((len(classes), *picture.shape[:2]))
for (x1, y1, x2, y2), row in zip(boxes.round().astype(int), probabilities.cpu().numpy()):
    heat[:, y1:y2, x1:x2] += row[:-1, None, None]
likely = present.argsort(descending=True)[:3].tolist()
figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout='constrained')
for axis, label in zip(axes, likely):
    axis.imshow(picture)
    axis.imshow(heat[label], cmap='turbo', alpha=0.55, vmin=0)
    title = f'{classes[label]}: in the image {present[label]:.2f}'
    axis.set(title=title, xticks=[], yticks=[])
display(figure)
plt.close(figure)

# %% [markdown]
# Masks start from a bottom-up cue, which needs no training: GrabCut finds the foreground of a
# box. The first mask head learns from these cues, and each later head learns from the one before
# it. Left: the cues for the detected boxes. Right: the model's masks in the same boxes.

# %%
prediction = inferencer(paths[0], return_datasamples=True)['predictions'][0].pred_instances.cpu()
best = prediction[prediction.scores.argsort(descending=True)[:4]]
cue = MODELS.build(dict(type='GrabCutCue', iterations=1))
masks = cue(cv2.imread(paths[0]), best.bboxes.numpy())
cues = InstanceData(bboxes=best.bboxes, labels=best.labels, masks=masks)
drawn = [
    visualizer.draw(picture_of(paths[0]), DetDataSample(gt_instances=instances), pred_score_thr=0)
    for instances in (cues, best)
]
show(drawn, ['GrabCut', 'the model'])

# %% [markdown]
# ## Train a little, with an override
#
# This is equivalent to `tools/train.py CONFIG --cfg-options model.roi_head.num_seeds=1 ...`. With
# one seed instead of three, a single proposal per tag becomes pseudo ground truth. Training starts
# from random weights.

# %%
from projects.common.cli.overrides import check_cfg_options
from projects.common.cli.run import build_runner, prepare

overrides = {
    'model.roi_head.num_seeds': 1,
    'train_cfg.max_iters': ITERATIONS,
    'train_cfg.val_interval': ITERATIONS + 1,  # no validation during training
    'param_scheduler': [],
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
figure, axis = plt.subplots(figsize=(6, 3.5), layout='constrained')
for name in sorted(key for key in steps[0] if 'loss' in key):
    axis.plot([step['step'] for step in steps], [step[name] for step in steps], label=name)
axis.set(xlabel='iteration', title='losses, mean of the last 50 iterations')
axis.legend(fontsize=6, ncols=2)
display(figure)
plt.close(figure)

# %% [markdown]
# ## Evaluate
#
# Evaluate the trained model on all test images, as `tools/test.py CONFIG CHECKPOINT` does. AP is a
# fraction; `weak/tag_map`, which rates the tags, is in percent.

# %%
cfg = Config.fromfile(CONFIG)
cfg.load_from = WEIGHTS
cfg.log_level = 'WARNING'
prepare(cfg, CONFIG, launcher='none', work_dir=f'{WORK_DIR}/test')
metrics = build_runner(cfg).test()
for name, value in metrics.items():
    print(f'{name:25}{value:8.3f}')
