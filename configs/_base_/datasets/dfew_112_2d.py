"""DFEW for the nets, at 112, as Recognizer2D takes it: a new view of each clip in every epoch."""

_base_ = ['dfew.py', '../views/faces_112.py']

train_pipeline = {{_base_.train_view_2d}}
test_pipeline = {{_base_.test_view_2d}}  # inference_recognizer takes it
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    dataset=dict(num_views=None, pipeline={{_base_.train_view_2d}}),
)
val_dataloader = dict(batch_size=32, num_workers=8, dataset=dict(pipeline={{_base_.test_view_2d}}))
test_dataloader = val_dataloader
