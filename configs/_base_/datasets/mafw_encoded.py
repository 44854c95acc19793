"""Load the frame vectors of MAFW: a frozen CLIP encodes each view once."""

_base_ = ['mafw.py']

train_dataloader = dict(
    num_workers=0,
    dataset=dict(_delete_=True, type='EncodedClips', dataset={{_base_.train_dataloader.dataset}}),
)
val_dataloader = dict(
    num_workers=0,
    dataset=dict(_delete_=True, type='EncodedClips', dataset={{_base_.val_dataloader.dataset}}),
)
test_dataloader = val_dataloader
