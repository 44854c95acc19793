"""IAL on DFEW with its authors' views and schedule, over ResNet18-ViT.

    python tools/cross_validate.py configs/ial/ial_recipe_dfew.py

``ial_dfew.py`` has the views and the schedule that all nets share here.
"""

_base_ = [
    '../_base_/models/ial.py',
    '../_base_/datasets/dfew_112_2d.py',
    '../_base_/views/ial_112.py',
    '../_base_/schedules/ial_70e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(pretrained={{_base_.weights}}), cls_head=dict(num_classes={{_base_.num_classes}})
)
train_pipeline = {{_base_.ial_train}}
test_pipeline = {{_base_.ial_test}}
train_dataloader = dict(batch_size=40, drop_last=True, dataset=dict(pipeline={{_base_.ial_train}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.ial_test}}))
test_dataloader = val_dataloader
