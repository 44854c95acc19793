"""Define the loaders of networks on 224 pixels, with a new random view of each clip in each epoch.

The views are those of faces_224.py, on which the file of each dataset is based. Our choice: batches
of 8 clips.
"""

train_loader = dict(batch_size=8, num_workers=8, dataset=dict(num_views=None))
test_loader = dict(batch_size=8, num_workers=8)
