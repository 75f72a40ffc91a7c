# BFAN (equal) with AOQ that goes on from the model of hard negatives, Flickr30K. Not in the paper.
# That model mines; the rate never decays; five terms, whose weight has no gradient; captions and
# images are drawn independently. RVSE_AOQ_BASE: its checkpoint, where it is elsewhere.
import os

_base_ = './bfan-equal_hn_1xb128-15e_f30k.py'
load_from = os.environ.get('RVSE_AOQ_BASE', 'work_dirs/bfan-equal_hn_1xb128-15e_f30k/epoch_15.pth')
model = dict(
    type='OfflineNegativesMatcher',
    loss=dict(_delete_=True, type='AOQLoss', margin=0.2, terms=5, clamp_weight=True),
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='OfflineNegativesDataset',
        dataset=_base_.train_dataloader.dataset,
        together=False,
        owners=False,
    ),
    collate_fn=dict(type='pairs_then_negatives'),
)
custom_hooks = [
    dict(type='BuildVocabularyHook', min_count=4),
    dict(type='GradientNormHook'),
    dict(type='OfflineMiningHook', top_captions=300, top_images=300),
]
