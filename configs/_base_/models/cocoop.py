"""CoCoOp: CoOp's shared context, shifted by a Meta-Net of the video vector.

From the paper: the Meta-Net (two linear layers, a 16th as wide inside), the shared context. Ours:
16 tokens as in coop.py, the mean of the frame vectors for the image's, ViT-B/32 and OpenAI's
weights.
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(type='FrozenCLIP', arch='ViT-B-32-quickgelu', weights='openai'),
    cls_head=dict(type='CoCoOpHead', num_tokens=16),
)
