"""Define Align-DFER: a frozen CLIP, the temporal encoders (JAS) and learned sentences (MAT).

The paper gives these three parts and their sizes: ViT-B/32, 16 frames, and S = 16 sentences of T =
64 tokens for each class. Our choice: OpenAI's weights of CLIP, because the paper does not name the
weights. The docstrings of JAS and MATHead list our other choices.
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(type='FrozenCLIP', arch='ViT-B-32-quickgelu', weights='openai'),
    neck=dict(type='JAS', num_frames=16, num_sentences=16),
    cls_head=dict(type='MATHead', num_classes=7, num_sentences=16, num_tokens=64),
)
