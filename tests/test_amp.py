"""Test mixed precision on the CPU, where only weights and 3D convolutions are in float32."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmaction.registry import OPTIM_WRAPPERS

from mmdfer.engine.optimizers.autocast_optim_wrapper import AutocastOptimWrapper, float32_conv3d


class Net(nn.Module):
    """Apply a linear layer, which runs in bfloat16, before the 3D layer under test."""

    def __init__(self, layer: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.before, self.layer, self.call = nn.Linear(2, 2), layer, call

    def forward(self, x: Tensor) -> Tensor:
        """Apply both layers, (N, C, T, 2, 2) -> (N, C, T, h, w)."""
        self.hidden = self.before(x)
        return self.call(self.layer, self.hidden)


def _recomputed(layer: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(layer, x, use_reentrant=False)


CASES = {
    'layer': (nn.Conv3d(16, 16, 3, padding=1), lambda layer, x: layer(x)),
    'same padding': (nn.Conv3d(16, 16, 3, padding='same'), lambda layer, x: layer(x)),
    'transposed': (nn.ConvTranspose3d(16, 16, 3), lambda layer, x: layer(x)),
    'function': (nn.Conv3d(16, 16, 1), lambda m, x: F.conv3d(x, m.weight, bias=m.bias)),
    'torch': (nn.Conv3d(16, 16, 1), lambda m, x: torch.conv3d(x, m.weight, m.bias)),
    'recomputed': (nn.Conv3d(16, 16, 3, padding=1), _recomputed),
}


def test_attention_is_computed_by_plain_products_in_the_context_alone() -> None:
    q = torch.randn(2, 3, 8, 16, requires_grad=True)
    expected = (q @ q.mT / 4).softmax(-1) @ q
    wrapper = AutocastOptimWrapper(torch.optim.SGD([q], lr=0.0))
    flags = torch.backends.cuda.flash_sdp_enabled
    assert flags()
    with wrapper.optim_context(nn.Linear(1, 1)):
        assert not flags()
        found = F.scaled_dot_product_attention(q, q, q)
    assert flags()
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)


def test_the_model_runs_in_bfloat16_and_its_weights_stay_in_float32() -> None:
    layer = nn.Linear(8, 8)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    wrapper = OPTIM_WRAPPERS.build(dict(type='AutocastOptimWrapper', optimizer=optimizer))
    x = torch.randn(4, 8)
    with wrapper.optim_context(layer):
        y = layer(x)
    assert y.dtype == torch.bfloat16 and layer(x).dtype == torch.float32
    wrapper.update_params(y.float().sum())
    assert layer.weight.dtype == torch.float32
    # d sum(xW' + b) / dW is the column sums of x, here with the 8 bits of bfloat16.
    expected = before - 0.5 * x.sum(0).expand(8, 8)
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=0.02, atol=0.02)
    assert set(wrapper.state_dict()) == set(optimizer.state_dict())  # no loss scaler


@pytest.mark.parametrize('name', CASES)
def test_a_3d_convolution_is_computed_in_float32(name: str) -> None:
    net = Net(*CASES[name])
    wrapper = AutocastOptimWrapper(torch.optim.SGD(net.parameters(), lr=0.0))
    x = torch.randn(2, 16, 2, 2, 2)
    net.zero_grad()
    with wrapper.optim_context(net):
        out = net(x)
    assert net.hidden.dtype == torch.bfloat16 and out.dtype == torch.float32
    wrapper.backward(out.pow(2).sum())
    gradient = net.layer.weight.grad.clone()

    net.zero_grad()  # the reference: the same layer in float32, without the wrapper
    expected = CASES[name][1](net.layer, net.hidden.detach().float())
    expected.pow(2).sum().backward()
    assert torch.equal(out, expected)
    assert torch.equal(gradient, net.layer.weight.grad)


def test_the_functions_are_put_back_and_untouched_without_autocast() -> None:
    layer, x = nn.Conv3d(1, 1, 1), torch.randn(1, 1, 2, 2, 2)
    originals = torch.conv3d, F.conv3d, F.conv_transpose3d
    with pytest.raises(KeyError), float32_conv3d():
        assert F.conv3d is not originals[1]
        assert layer.double()(x.double()).dtype == torch.float64
        raise KeyError
    assert (torch.conv3d, F.conv3d, F.conv_transpose3d) == originals
    with torch.autocast('cpu', dtype=torch.bfloat16):  # not the wrapper's context
        assert layer.float()(x).dtype == torch.bfloat16
