# RVSE++ Table 4, row 3, half: BFAN (prob) with AOQ, Flickr30K
# Goes on from the model of hard negatives, whose scores of the whole training set name the offline
# negatives. RVSE_AOQ_BASE: its checkpoint, where it is elsewhere.
import os

_base_ = './bfan-prob_hn_1xb128-15e_f30k.py'
load_from = os.environ.get('RVSE_AOQ_BASE', 'work_dirs/bfan-prob_hn_1xb128-15e_f30k/epoch_15.pth')
model = dict(loss=dict(_delete_=True, type='AOQLoss', margin=0.2))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='OfflineNegativesDataset',
        dataset=_base_.train_dataloader.dataset,
    ),
    collate_fn=dict(type='pairs_then_negatives'),
)
custom_hooks = [
    dict(type='BuildVocabularyHook', min_count=4),
    dict(type='GradientNormHook'),
    dict(type='OfflineMiningHook', top=300),
]
