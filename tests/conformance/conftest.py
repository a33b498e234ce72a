"""Small seeded random models of the reference library, saved as it saves them."""

from importlib.util import find_spec

import pytest
import torch

if find_spec("diffusers") and find_spec("transformers"):
    import diffusers
    import transformers
    from tokenizers import processors

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;'\"-()*/\n"


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


def randomised(module, scale=1.0):
    """Weights that leave nothing at zero and nothing exploding."""
    for name, weight in module.named_parameters():
        std = 0.1 if weight.ndim == 1 else weight[0].numel() ** -0.5
        mean = float("norm" in name and "bias" not in name)
        torch.nn.init.normal_(weight, mean=mean, std=std * scale)
    return module.eval().requires_grad_(False)


def tiny_tokenizer():
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", *LETTERS.replace(" ", "")]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = transformers.GemmaTokenizer(vocab=vocabulary, merges=[])
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", 2)]
    )
    return tokenizer, len(words)


def tiny_vae(kind):
    if kind == "wan":
        vae = diffusers.AutoencoderKLWan(
            base_dim=8, z_dim=4, dim_mult=[1, 1, 2, 2], num_res_blocks=1,
            latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.2, 0.8, 1.0, 1.5],
        )  # fmt: skip
        return randomised(vae)
    vae = diffusers.AutoencoderKLLTX2Video(
        latent_channels=4, block_out_channels=(8, 16, 32, 64),
        decoder_block_out_channels=(8, 16, 32), layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1), decoder_causal=False,
        spatial_compression_ratio=32, temporal_compression_ratio=8,
    )  # fmt: skip
    randomised(vae)
    vae.latents_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    vae.latents_std.copy_(torch.tensor([1.2, 0.8, 1.0, 1.5]))
    return vae


@pytest.fixture
def reference_pipeline(reference_transformer):
    """A function from a kind of VAE and scheduler to a tiny whole pipeline."""

    def build(vae="wan", scheduler="dpm"):
        torch.manual_seed(5)
        tokenizer, words = tiny_tokenizer()
        encoder = transformers.Gemma2Model(
            transformers.Gemma2Config(
                vocab_size=words, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=1, head_dim=8,
            )
        )  # fmt: skip
        patch = (1, 2, 2) if vae == "wan" else (1, 1, 1)
        solver = (
            diffusers.DPMSolverMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0
            )
            if scheduler == "dpm"
            else diffusers.FlowMatchEulerDiscreteScheduler(shift=8.0)
        )
        return diffusers.SanaVideoPipeline(
            tokenizer=tokenizer,
            text_encoder=randomised(encoder),
            vae=tiny_vae(vae),
            transformer=reference_transformer(
                patch_size=patch, sample_size=30 if vae == "wan" else 22
            ),
            scheduler=solver,
        )

    return build
