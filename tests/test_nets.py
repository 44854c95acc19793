"""Test Former-DFER, M3DFEL, P3D and torchvision's 3D ResNets.

The tests compare the numbers of parameters with published ones and each part with plain algebra,
and train the nets on 16 clips to 100 %.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mixed import PictureClips, accuracy, batch, make_runner
from mmengine.config import Config
from reference import State, unbiased_layer, under
from references.m3dfel import dmin as reference_dmin
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, video
from torchvision.models.video import R3D_18_Weights, r3d_18

from mmaction.registry import MODELS

from mmdfer import DFERError
from mmdfer.models import M3DFEL, P3D, FormerDFER
from mmdfer.models.backbones.m3dfel import DLIAM, DMIN
from mmdfer.models.backbones.p3d import P3DBlock

BASES = Path(__file__).resolve().parents[1] / 'configs' / '_base_' / 'models'


def build(name: str, **options: Any) -> nn.Module:
    """Build the recognizer of a shipped config."""
    config = Config.fromfile(BASES / f'{name}.py')
    config.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    return MODELS.build(config.model)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def stirred(model: nn.Module) -> nn.Module:
    """Draw all weights that start at zero or one, since these would hide wrong wiring."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.ndim == 1:
            spread = torch.rand(tensor.shape, generator=generator)
            tensor.data = 0.5 + spread if 'var' in name or 'weight' in name else spread - 0.5
    return model.eval()


# ------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ('name', 'shape'),
    [('former_dfer', (512, 1, 1, 1)), ('m3dfel', (1024, 1, 1, 1)), ('p3d', (2048, 1, 4, 4))],
)
def test_a_shipped_net_reads_16_frames_at_112(name: str, shape: tuple[int, ...]) -> None:
    model = build(name).eval()
    with torch.no_grad():
        features = model(torch.randn(1, 1, 3, 16, 112, 112), stage='backbone')
        assert features.shape == (1, *shape)
        assert model.cls_head(features).shape == (1, 7)


def test_former_dfer_has_the_parameters_of_the_authors_net() -> None:
    """Compare with the count in zengqunzhao/Former-DFER; the paper gives 18 M."""
    assert count(build('former_dfer')) == 18_031_943


def test_m3dfel_has_as_many_parameters_as_the_papers_parts() -> None:
    """Add up the parameters of the parts, since the paper gives no number.

    The number of R3D-18 is torchvision's, without its layer for 400 classes.
    """
    r3d = R3D_18_Weights.KINETICS400_V1.meta['num_params'] - 400 * (512 + 1)
    lstm = sum(2 * 4 * 512 * (width + 512 + 2) for width in (512, 2 * 512))  # both directions
    attention, dmin, aggregation, head = 3 * 1024**2, 2 * 1024 + 4, 4 * 3 + 1, 7 * (1024 + 1)
    total = r3d + lstm + attention + dmin + aggregation + head
    assert count(build('m3dfel')) == total
    assert total == pytest.approx(46.8e6, rel=0.01)


def test_p3d_has_a_resnet50s_parameters_and_those_of_its_temporal_convolutions() -> None:
    resnet = ResNet50_Weights.IMAGENET1K_V1.meta['num_params'] - 1000 * (2048 + 1)
    widths = 3 * [64] + 4 * [128] + 6 * [256]  # res2, res3, res4; res5 has none
    temporal = sum(3 * width**2 + 2 * width for width in widths)
    assert count(P3D()) == resnet + temporal


def test_p3d_has_the_published_98_megabytes() -> None:
    """Compare with the paper's size of P3D ResNet for UCF101, which has 101 classes."""
    model = build('p3d', **{'cls_head.num_classes': 101})
    size = sum(tensor.numel() * 4 for tensor in model.state_dict().values())
    assert size / 2**20 == pytest.approx(98, rel=0.03)


# ------------------------------------------------------------------- Former-DFER


def encoders(x: Tensor, layers: list[State], heads: int) -> Tensor:
    """Apply the authors' encoder layers in plain algebra, (N, L, D) -> (N, L, D)."""
    for layer in layers:
        x = unbiased_layer(x, layer, heads)
    return x


def test_former_dfer_equals_a_loop_over_clips_frames_and_places() -> None:
    net = stirred(FormerDFER(input_size=50, num_frames=3, spatial_depth=2, temporal_depth=2))
    clips = torch.randn(2, 3, 3, 50, 50)
    state = net.state_dict()
    spatial = [under(state, f'spatial_encoder.{i}.') for i in range(2)]
    time = under(state, 'temporal_transformer.')
    temporal = [under(time, f'layers.{i}.') for i in range(2)]
    with torch.no_grad():
        found = net(clips)
        for clip, vector in zip(clips, found):
            tokens = [time['class_token'] + time['class_position']]
            for number in range(3):
                maps = net.blocks(net.stem(clip[None, :, number]))[0]  # (256, 4, 4)
                assert maps.shape == (256, 4, 4)
                places = [maps[:, row, column] for row in range(4) for column in range(4)]
                read = encoders((torch.stack(places) + state['position'])[None], spatial, 8)[0]
                maps = torch.stack([read[4 * row : 4 * row + 4] for row in range(4)])  # (4, 4, 256)
                face = net.last_block(maps.permute(2, 0, 1)[None])[0].mean((1, 2))
                tokens.append(face + time['position'][number])
            by_hand = encoders(torch.stack(tokens)[None], temporal, 8)[0, 0]
            torch.testing.assert_close(vector[:, 0, 0, 0], by_hand, rtol=1e-4, atol=1e-4)


def test_former_dfer_refuses_frames_of_another_size() -> None:
    with pytest.raises(DFERError, match=r'\(48, 64\).*for 64: set backbone.input_size') as error:
        FormerDFER(input_size=64)(torch.zeros(1, 3, 16, 48, 64))
    assert '\n' not in str(error.value)


# ----------------------------------------------------------------------- M3DFEL


def lstm_by_hand(x: Tensor, state: State, layers: int) -> Tensor:
    """Compute a bidirectional LSTM with each gate written out, (L, I) -> (L, 2 H)."""
    for layer in range(layers):
        outputs = []
        for suffix in ('', '_reverse'):
            names = [f'{part}_l{layer}{suffix}' for part in ('weight_ih', 'weight_hh')]
            biases = state[f'bias_ih_l{layer}{suffix}'] + state[f'bias_hh_l{layer}{suffix}']
            hidden = cell = torch.zeros(state[names[1]].shape[1])
            steps = range(len(x)) if not suffix else reversed(range(len(x)))
            states = {}
            for step in steps:
                gates = state[names[0]] @ x[step] + state[names[1]] @ hidden + biases
                keep_in, forget, new, out = gates.chunk(4)
                cell = forget.sigmoid() * cell + keep_in.sigmoid() * new.tanh()
                hidden = states[step] = out.sigmoid() * cell.tanh()
            outputs.append(torch.stack([states[step] for step in range(len(x))]))
        x = torch.cat(outputs, dim=1)
    return x


def dmin_by_hand(x: Tensor, state: State) -> Tensor:
    """Compute DMIN for one bag (instances, C), channel by channel, as the authors' code does."""
    shares = [state[f'{name}_weight'].exp() for name in ('mean', 'var')]
    mean_share, var_share = (share / share.sum() for share in shares)
    instances, channels = x.shape
    means = [sum(x[i, c] for i in range(instances)) / instances for c in range(channels)]
    variances = [
        sum((x[i, c] - means[c]) ** 2 for i in range(instances)) / (instances - 1)
        for c in range(channels)
    ]
    bag_mean = sum(means) / channels
    bag_var = sum(v + m**2 for v, m in zip(variances, means)) / channels - bag_mean**2
    columns = []
    for c in range(channels):
        mean = mean_share[0] * means[c] + mean_share[1] * bag_mean
        var = var_share[0] * variances[c] + var_share[1] * bag_var
        columns.append((x[:, c] - mean) / (var + 1e-5) ** 0.5 * state['weight'][c])
    return torch.stack(columns, dim=1) + state['bias']


def test_dliam_equals_its_equations_written_out() -> None:
    dims, heads, instances = 6, 2, 3
    net = stirred(DLIAM(instances, dims, heads))
    state = net.state_dict()
    bags = torch.randn(4, instances, dims)
    with torch.no_grad():
        found = net(bags)
    for bag, vector in zip(bags, found):
        h = lstm_by_hand(bag, under(state, 'lstm.'), layers=2)  # (instances, 12)
        query, key, value = (h @ state['qkv.weight'].T).chunk(3, dim=1)
        mixed = []
        for part in range(heads):
            columns = slice(part * 6, part * 6 + 6)  # 12 / 2 heads
            scores = (query[:, columns] @ key[:, columns].T / 6**0.5).exp()
            mixed.append(scores / scores.sum(1, keepdim=True) @ value[:, columns])
        h = h * torch.sigmoid(dmin_by_hand(torch.cat(mixed, dim=1), under(state, 'norm.')))
        kernel, padded = state['aggregate.weight'][0], F.pad(h, (1, 1))  # (instances, 3)
        by_hand = [
            (kernel * padded[:, place : place + 3]).sum() + state['aggregate.bias'][0]
            for place in range(2 * dims)
        ]
        torch.testing.assert_close(vector, torch.stack(by_hand), rtol=1e-5, atol=1e-6)


def test_dmin_with_all_weight_on_the_channels_is_an_instance_norm() -> None:
    """Compare with torch's instance norm, whose variance has another divisor."""
    x = torch.randn(5, 4, 7) * 3 + torch.randn(5, 4, 1)
    norm = DMIN(7, eps=0)
    norm.mean_weight.data = norm.var_weight.data = torch.tensor([9e9, -9e9])
    by_torch = F.instance_norm(x.transpose(1, 2), eps=0).transpose(1, 2)
    torch.testing.assert_close(norm(x), by_torch * (3 / 4) ** 0.5, rtol=1e-5, atol=1e-5)


def test_dmin_equals_its_sums_written_out() -> None:
    norm = stirred(DMIN(7))
    norm.mean_weight.data, norm.var_weight.data = (
        torch.tensor([1.0, 0.2]),
        torch.tensor([-0.4, 0.9]),
    )
    bags = torch.randn(5, 4, 7) * torch.rand(5, 4, 1) + 2 * torch.randn(5, 4, 1)
    by_hand = torch.stack([dmin_by_hand(bag, norm.state_dict()) for bag in bags])
    torch.testing.assert_close(norm(bags), by_hand)
    state = (norm.state_dict()[name] for name in ('weight', 'bias', 'mean_weight', 'var_weight'))
    torch.testing.assert_close(norm(bags), reference_dmin(bags, *state))


def test_m3dfel_reads_consecutive_frames_as_instances() -> None:
    net = stirred(M3DFEL(instances=3, instance_length=4))
    clips = torch.randn(2, 3, 12, 16, 16)
    with torch.no_grad():
        features = [net.r3d(clips[:, :, 4 * i : 4 * i + 4]) for i in range(3)]  # each (2, 512)
        by_hand = net.dliam(torch.stack(features, dim=1))
        torch.testing.assert_close(net(clips)[:, :, 0, 0, 0], by_hand, rtol=1e-4, atol=1e-5)


def test_m3dfel_refuses_another_number_of_frames() -> None:
    with pytest.raises(
        DFERError, match=r'8 frames, but 4 instances of 4 frames need 16: .*clip_len'
    ):
        M3DFEL()(torch.zeros(1, 3, 8, 16, 16))


class Attack:
    """Pickle as a call that writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_m3dfel_takes_torchvisions_file_and_nothing_else(tmp_path: Path) -> None:
    source, path = r3d_18().state_dict(), tmp_path / 'r3d_18.pth'
    torch.save(source, path)
    net = M3DFEL(pretrained=str(path))
    net.init_weights()
    for name, tensor in net.r3d.state_dict().items():
        assert torch.equal(tensor, source[name]), name
    net.pretrained = str(tmp_path / 'none.pth')
    with pytest.raises(DFERError, match='is not a file; download https://download.pytorch.org'):
        net.init_weights()
    net.pretrained = str(path)
    for content in (dict(list(source.items())[1:3]), [1, 2], b''):
        torch.save(content, path)
        with pytest.raises(DFERError, match='does not contain the weights of torchvision') as error:
            net.init_weights()
        assert '\n' not in str(error.value)
    path.write_bytes(pickle.dumps(Attack(tmp_path / 'attacked')))
    with pytest.raises(DFERError, match='does not contain the weights of torchvision'):
        net.init_weights()
    assert not (tmp_path / 'attacked').exists()


# ------------------------------------------------------------------- R3D-18, R(2+1)D-18


@pytest.mark.parametrize(('name', 'arch'), [('r3d18', 'r3d_18'), ('r2plus1d18', 'r2plus1d_18')])
def test_every_stage_equals_torchvisions(name: str, arch: str) -> None:
    """Compare with copied weights; 16 frames of 112 pixels shrink to 2 x 7 x 7 without pooling."""
    theirs = stirred(getattr(video, arch)(num_classes=7))
    ours = build(name).eval().backbone
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith('fc.')}
    ours.net.load_state_dict(state)
    x, shapes = torch.randn(1, 3, 16, 112, 112), []
    with torch.no_grad():
        expected = theirs.stem(x)
        found = ours.net.stem(x)
        torch.testing.assert_close(found, expected)
        for number, stage in enumerate(ours.stages(), 1):
            expected, found = getattr(theirs, f'layer{number}')(expected), stage(found)
            torch.testing.assert_close(found, expected)
            shapes.append(tuple(found.shape[1:]))
        torch.testing.assert_close(ours(x), expected)
        pooled = ours(x).mean((2, 3, 4)) @ theirs.fc.weight.T + theirs.fc.bias
        torch.testing.assert_close(pooled, theirs(x), rtol=1e-4, atol=1e-4)
    assert shapes == [(64, 16, 56, 56), (128, 8, 28, 28), (256, 4, 14, 14), (512, 2, 7, 7)]


def test_a_video_resnet_takes_torchvisions_weights_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / 'r2plus1d_18.pth'
    torch.save(video.r2plus1d_18().state_dict(), path)
    net = MODELS.build(dict(type='VideoResNet', arch='r2plus1d_18', pretrained=str(path)))
    net.init_weights()
    with pytest.raises(DFERError, match="torchvision's r3d_18"):
        MODELS.build(dict(type='VideoResNet', pretrained=str(path))).init_weights()
    with pytest.raises(DFERError, match='not weights of r3d_18'):
        MODELS.build(dict(type='VideoResNet', pretrained='torchvision://resnet18')).init_weights()
    with pytest.raises(DFERError, match="arch must be one of .*'r50'"):
        MODELS.build(dict(type='VideoResNet', arch='r50'))


# -------------------------------------------------------------------------- P3D


def conv_by_hand(x: Tensor, state: State, padding: tuple, stride: int, relu: bool = True) -> Tensor:
    """Compute a convolution, BatchNorm with its running statistics, and ReLU."""
    x = F.conv3d(x, state['conv.weight'], stride=(1, stride, stride), padding=padding)
    mean, var, weight, bias = (
        state[f'bn.{name}'][:, None, None, None]
        for name in ('running_mean', 'running_var', 'weight', 'bias')
    )
    x = (x - mean) / (var + 1e-5).sqrt() * weight + bias
    return x.clamp(min=0) if relu else x


@pytest.mark.parametrize('kind', ['A', 'B', 'C', '2D'])
@pytest.mark.parametrize(('channels', 'stride'), [(5, 2), (24, 1)])
def test_a_p3d_block_equals_the_papers_formula(kind: str, channels: int, stride: int) -> None:
    block = stirred(P3DBlock(channels, 6, kind, stride))
    state = block.state_dict()
    x = torch.randn(2, channels, 4, 6, 8)

    def part(name: str, x: Tensor, padding: tuple = (0, 0, 0), **options: Any) -> Tensor:
        return conv_by_hand(x, under(state, f'{name}.'), padding, **{'stride': 1, **options})

    def s(x: Tensor) -> Tensor:
        return part('spatial', x, (0, 1, 1))

    def t(x: Tensor) -> Tensor:
        return part('temporal', x, (1, 0, 0))

    formula = dict(
        A=lambda x: t(s(x)), B=lambda x: s(x) + t(x), C=lambda x: s(x) + t(s(x)), **{'2D': s}
    )
    middle = formula[kind](part('reduce', x, stride=stride))
    rest = x if channels == 24 else part('shortcut', x, stride=stride, relu=False)
    by_hand = (part('expand', middle, relu=False) + rest).clamp(min=0)
    assert by_hand.shape == (2, 24, 4, 6 // stride, 8 // stride)
    with torch.no_grad():
        torch.testing.assert_close(block(x), by_hand, rtol=1e-4, atol=1e-4)


def test_p3d_takes_its_blocks_in_turn() -> None:
    for depth, length in ((63, 13), (131, 30), (199, 47)):
        kinds = [m.kind for m in P3D(depth, base_width=1).modules() if isinstance(m, P3DBlock)]
        assert ''.join(kinds[:length]) == ('ABC' * length)[:length]
        assert kinds[length:] == ['2D'] * 3


def test_p3d_refuses_what_it_cannot_be() -> None:
    with pytest.raises(DFERError, match='depth must be one of 63, 131, 199, got 50'):
        P3D(50)
    with pytest.raises(DFERError, match='clips of 8 frames .*set clip_len to 16 or more'):
        P3D(base_width=1)(torch.zeros(1, 3, 8, 32, 32))


# ------------------------------------------------------------------- 16 clips to 100 %

SMALL = {  # the clips, the options, the learning rate, the number of steps
    'former_dfer': (dict(frames=4, size=(32, 32)), {'backbone.input_size': 32}, 3e-4, 8),
    'm3dfel': (
        dict(frames=8, size=(16, 16)),
        {'backbone.instances': 2, 'cls_head.label_smooth_eps': 0.0},
        3e-4,
        8,
    ),
    'p3d': (
        dict(frames=16, size=(32, 32)),
        {'backbone.base_width': 16, 'cls_head.in_channels': 512, 'cls_head.dropout_ratio': 0.0},
        3e-3,
        24,
    ),
}


@pytest.mark.parametrize('name', SMALL)
def test_a_shipped_net_learns_the_order_of_16_clips(name: str, tmp_path: Path) -> None:
    """Learn eight clips and their reverses, which only the order of the frames tells apart."""
    data, options, rate, steps = SMALL[name]
    dataset = dict(data, kind='order', layout='NCTHW')
    model = build(name, **{'cls_head.num_classes': 2, **options})
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.momentum = 0.5  # with few steps, the statistics must follow quickly
    optimizer = dict(optimizer=dict(type='AdamW', lr=rate), clip_grad=dict(max_norm=1))
    runner = make_runner(model, dataset, tmp_path, optimizer, max_iters=steps)
    runner.train()
    assert accuracy(runner) == 1
    clips = PictureClips(**dataset)
    with torch.no_grad():
        pairs = torch.stack([s.pred_score for s in model.test_step(batch(clips))]).view(8, 2, 2)
    assert (pairs[:, 0] - pairs[:, 1]).abs().min() > 0.2
