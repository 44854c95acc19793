"""The loaders of the nets that take 224 pixels: a new view of each clip in every epoch.

The views are those of faces_224.py, which each dataset's file has. Ours: batch 8.
"""

train_loader = dict(batch_size=8, num_workers=8, dataset=dict(num_views=None))
test_loader = dict(batch_size=8, num_workers=8)
