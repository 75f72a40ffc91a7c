# f30k_precomp.py with negatives that OfflineMiningHook mines from the whole training set (AOQ).
_base_ = './f30k_precomp.py'
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='OfflineNegativesDataset', dataset=_base_.train_dataloader.dataset
    ),
    collate_fn=dict(type='pairs_then_negatives'),
)
