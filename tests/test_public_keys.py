"""Public names and configs, without the reference library."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.checkpoints.public_config import (
    PublicTransformer,
    read_transformer_config,
    write_transformer_config,
)
from longtake.checkpoints.public_keys import from_public, key_map, public_shapes, to_public
from longtake.config import TransformerConfig, to_dict
from longtake.errors import SettingError, WeightsError
from longtake.model import Transformer
from longtake.official.transformer import empty_transformer, load_transformer, save_transformer

SMALL = TransformerConfig(
    latent_channels=4, width=24, depth=2, heads=2, ffn_ratio=3.0, text_width=16,
    rope_theta=10_000.0, patch=(1, 2, 2), cross_norm_eps=1e-5, attention_eps=1e-15,
)  # fmt: skip
PUBLISHED = {"_class_name": "SanaVideoTransformer3DModel", "mlp_ratio": 3.0}
CPU = torch.device("cpu")


def small(config=SMALL):
    model = Transformer(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    return model


def shapes_of(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("layout", ["diffusers", "original"])
@pytest.mark.parametrize(
    "config", [SMALL, replace(SMALL, qkv_bias=True, cross_heads=3, cross_width=30)]
)
def test_names_map_there_and_back_to_the_same_bits(layout, config):
    model = small(config)
    keys = key_map(config, shapes_of(model), layout)
    public = to_public(keys, model.state_dict())
    assert {name: tuple(value.shape) for name, value in public.items()} == public_shapes(keys)
    back = from_public(keys, public)
    assert all(torch.equal(back[name], value) for name, value in model.state_dict().items())


def test_the_original_files_names_and_shapes_are_the_authors():
    config = read_transformer_config(PUBLISHED, "config.json")
    shapes = public_shapes(key_map(config, shapes_of(empty_transformer(config)), "original"))
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 2_056_862_144
    for name, shape in {
        "x_embedder.proj.weight": (2240, 16, 1, 2, 2),
        "y_embedder.y_proj.fc1.weight": (2240, 2304),
        "attention_y_norm.weight": (2240,),
        "t_embedder.mlp.0.weight": (2240, 256),
        "t_embedder.mlp.2.bias": (2240,),
        "t_block.1.weight": (6 * 2240, 2240),
        "blocks.19.scale_shift_table": (6, 2240),
        "blocks.0.attn.qkv.weight": (3 * 2240, 2240),
        "blocks.0.attn.q_norm.weight": (2240,),
        "blocks.0.attn.proj.bias": (2240,),
        "blocks.7.cross_attn.q_linear.weight": (2240, 2240),
        "blocks.7.cross_attn.kv_linear.bias": (2 * 2240,),
        "blocks.7.cross_attn.k_norm.weight": (2240,),
        "blocks.7.cross_attn.proj.weight": (2240, 2240),
        "blocks.3.mlp.inverted_conv.conv.weight": (13440, 2240, 1, 1),
        "blocks.3.mlp.depth_conv.conv.weight": (13440, 1, 3, 3),
        "blocks.3.mlp.point_conv.conv.weight": (2240, 6720, 1, 1),
        "blocks.3.mlp.t_conv.weight": (2240, 2240, 3, 1),
        "final_layer.linear.weight": (64, 2240),
        "final_layer.scale_shift_table": (2, 2240),
    }.items():
        assert shapes[name] == shape


@pytest.mark.parametrize(
    ("extra", "parameters"),
    [
        ({}, 2_056_862_144),
        ({"in_channels": 128, "out_channels": 128, "patch_size": [1, 1, 1]}, 2_057_148_928),
    ],
)
def test_the_published_models_have_the_published_number_of_parameters(extra, parameters):
    model = empty_transformer(read_transformer_config(PUBLISHED | extra, "config.json"))
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, qk_norm=False, norm_eps=1e-5)])
def test_a_config_written_is_read_back_as_it_was(config):
    again = read_transformer_config(write_transformer_config(config), "config.json")
    assert write_transformer_config(again) == write_transformer_config(config)
    assert to_dict(again)["width"] == config.width
    assert again.qk_norm == config.qk_norm


def test_every_default_is_the_public_class_s_own():
    config = read_transformer_config({"_class_name": "SanaVideoTransformer3DModel"}, "config.json")
    assert (config.ffn_ratio, config.width, config.patch) == (2.5, 2240, (1, 2, 2))
    assert PublicTransformer().norm_eps == 1e-6


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"_class_name": "os.system"}, WeightsError, "names the class 'os.system'"),
        ({"_class_name": None}, WeightsError, "names the class 'None'"),
        ({"mlp_ration": 3.0}, SettingError, "did you mean 'mlp_ratio'"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, SettingError, "unknown setting 'auto_map'"),
        ({"num_layers": "20"}, SettingError, "num_layers cannot be '20'"),
        ({"num_layers": True}, SettingError, "num_layers cannot be True"),
        ({"qk_norm": "layer_norm"}, WeightsError, "qk_norm is 'layer_norm'"),
        ({"cross_attention_dim": None}, WeightsError, "must be the width 2240, got None"),
        ({"patch_size": [2, 2]}, SettingError, "patch must be 3 counts"),
    ],
)
def test_a_config_that_is_not_this_model_s_is_refused_by_name(change, error, told):
    with pytest.raises(error, match=told):
        read_transformer_config(PUBLISHED | change, "transformer/config.json")


def test_what_is_saved_is_loaded_in_another_precision(tmp_path):
    model = small()
    save_transformer(model, tmp_path)
    again = load_transformer(tmp_path, torch.bfloat16, CPU)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.bfloat16())
    assert not any(p.requires_grad for p in again.parameters())


def test_a_model_the_public_class_cannot_express_is_not_saved(tmp_path):
    with pytest.raises(WeightsError, match="got block and 10000"):
        save_transformer(small(replace(SMALL, attention="block")), tmp_path)


def damage(folder, how):
    file = folder / "diffusion_pytorch_model.safetensors"
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    match how:
        case "half a shard":
            file.write_bytes(file.read_bytes()[:2000])
            index.unlink()
        case "a flipped bit":
            raw = bytearray(file.read_bytes())
            raw[-1] ^= 1
            file.write_bytes(raw)
        case "a missing file":
            file.unlink()
        case "another size":
            config = json.loads((folder / "config.json").read_text())
            config["num_layers"] = 3
            (folder / "config.json").write_text(json.dumps(config))
        case "nothing":
            index.unlink()
            file.unlink()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("half a shard", "is truncated"),
        ("a flipped bit", "does not have the checksum"),
        ("a missing file", "cannot read the weights"),
        ("another size", "tensor 'transformer_blocks.2"),
        ("nothing", "no weights at"),
    ],
)
def test_damaged_weights_are_refused_in_one_line(tmp_path, how, told):
    save_transformer(small(), tmp_path)
    damage(tmp_path, how)
    with pytest.raises(WeightsError, match=told) as caught:
        load_transformer(tmp_path, torch.float32, CPU)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    save_transformer(small(), tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["proj_out.bias"][3] = float("nan")
    save_file(tensors, file)
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").unlink()
    with pytest.raises(WeightsError, match=r"'proj_out.bias' has values from nan"):
        load_transformer(tmp_path, torch.float32, CPU)
