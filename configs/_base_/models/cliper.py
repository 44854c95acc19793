"""CLIPER: several learned text descriptors for each class, and an image tower that trains.

From the paper: ViT-B/16, 5 descriptors of 4 tokens for each class, the image tower trained once
the descriptors are. Ours: a descriptor is its tokens and a full stop, without the class's name
(Align-DFER's tokens, of another S and T); a class is the mean of its descriptors, a clip the mean
of its frames; OpenAI's weights.
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(
        type='FrozenCLIP', arch='ViT-B-16-quickgelu', weights='openai', trains=[r'^visual\.']
    ),
    cls_head=dict(type='MATHead', num_sentences=5, num_tokens=4),
)
