"""Convert the checkpoints of Former-DFER's authors.

The names of the tensors are those of models/ST_Former.py, S_Former.py and T_Former.py in
zengqunzhao/Former-DFER. Its ResNet-18 has the names of torchvision's.
"""

from __future__ import annotations

from mmdfer.converters.authors_file import AuthorsFile
from mmdfer.converters.class_order import find_class_rows
from mmdfer.converters.conversion import Conversion, build_model, read_config
from mmdfer.converters.transfer import (
    Sources,
    count_layers,
    fill,
    list_layers,
    list_temporal_transformer,
)

# The prefixes of the ResNet's tensors in FormerDFER, and in the file.
_RESNET = {
    'backbone.stem.0.': 's_former.conv1.',
    'backbone.stem.1.': 's_former.bn1.',
    'backbone.blocks.0.': 's_former.layer1.',
    'backbone.blocks.1.': 's_former.layer2.',
    'backbone.blocks.2.': 's_former.layer3.',
    'backbone.last_block.': 's_former.layer4.',
}
_SPATIAL = 's_former.spatial_transformer.layers.'
_TEMPORAL = 'spatial_transformer.layers.'  # below t_former, in spite of its name


def convert_former_dfer(file: AuthorsFile, dataset: str) -> Conversion:
    """Convert a checkpoint of Former-DFER.

    Args:
        file: The authors' file.
        dataset: Name of the dataset on which the authors trained, a key into ``DATASETS``.

    Raises:
        DFERError: If the file lacks a tensor, or has tensors of other shapes or for another number
            of classes.
    """
    rows = find_class_rows(file, dataset, 'fc.weight')
    depth, temporal_depth = (
        count_layers(file, prefix) for prefix in (_SPATIAL, f't_former.{_TEMPORAL}')
    )
    config = read_config('former_dfer', dataset)
    config.model.backbone.update(spatial_depth=depth, temporal_depth=temporal_depth)
    model = build_model(config)
    sources: Sources = {
        name: (f'{theirs}{name.removeprefix(ours)}', ...)
        for name in model.state_dict()
        for ours, theirs in _RESNET.items()
        if name.startswith(ours)
    }
    sources |= {
        'backbone.position': ('s_former.pos_embedding', 0),
        'cls_head.fc_cls.weight': ('fc.weight', rows),
        'cls_head.fc_cls.bias': ('fc.bias', rows),
    }
    sources |= list_layers('backbone.spatial_encoder.', _SPATIAL, depth)
    sources |= list_temporal_transformer(
        'backbone.temporal_transformer.', 't_former.', _TEMPORAL, temporal_depth
    )
    fill(model, sources, file)
    settings = dict(backbone=dict(spatial_depth=depth, temporal_depth=temporal_depth))
    return Conversion(model.state_dict(), settings)
