"""Small seeded random models of the reference library, saved as it saves them."""

import warnings

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    diffusers = pytest.importorskip(
        "diffusers", reason="the reference library: pip install '.[official]'"
    )


@pytest.fixture
def reference_transformer():
    """A function from settings to a transformer with weights that leave nothing at zero."""

    def build(seed=0, **settings):
        torch.manual_seed(seed)
        plain = {
            "in_channels": 4, "out_channels": 4, "num_attention_heads": 2,
            "attention_head_dim": 12, "num_layers": 2, "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 12, "cross_attention_dim": 24, "caption_channels": 16,
            "mlp_ratio": 3.0,
        }  # fmt: skip
        model = diffusers.SanaVideoTransformer3DModel(**(plain | settings)).eval()
        for name, weight in model.named_parameters():
            scale = 0.5 if weight.ndim == 1 else (weight[0].numel()) ** -0.5
            torch.nn.init.normal_(weight, mean=float("norm" in name), std=scale)
        return model.requires_grad_(False)

    return build
