"""A film shared between processes is the film that one process makes."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from team_work import spawned

from longtake.config import SampleConfig, TransformerConfig
from longtake.errors import CannotHere
from longtake.model import Transformer
from longtake.official.folder import PublicModel, Vae
from longtake.official.longsana import roll
from longtake.official.pipeline import OfficialPipeline, Running
from longtake.official.settings import OfficialConfig
from longtake.parallel import ALL, Roles, roles_of
from longtake.parallel.team import part_of
from longtake.pipeline import Frames, Pipeline, build
from longtake.planner import traffic_of
from longtake.rollout.sharing import share_of

FP32 = 1e-5
OURS = TransformerConfig(latent_channels=4, width=24, depth=2, heads=2, text_width=16)
PUBLIC = TransformerConfig(
    latent_channels=4, width=24, depth=2, heads=2, ffn_ratio=3.0, text_width=16,
    rope_theta=10_000.0, patch=(1, 2, 2), cross_norm_eps=1e-5, attention_eps=1e-15, qkv_bias=True,
)  # fmt: skip


def model_of(config):
    torch.manual_seed(0)
    model = Transformer(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        mean = float("norm" in name)
        torch.nn.init.normal_(weight, mean=mean, std=0.3 * (weight[0].numel() or 1) ** -0.5)
    return model


def inputs(frames, seed=1):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, 4, frames, 4, 6, generator=generator)
    sigma = torch.rand(1, frames, generator=generator).double()
    text = torch.randn(1, 5, 16, generator=generator)
    return latents, sigma, text, torch.tensor([[True, True, True, True, False]])


def one_pass(team, config, counts):
    """Velocity of films of several lengths, everybody's part of them put together."""
    model, films = model_of(config), []
    for frames in counts:
        latents, sigma, text, mask = inputs(frames)
        own, share = team.frames(frames), share_of(team, frames)
        here = slice(own.start, own.stop)
        velocity = model(latents[:, :, here], sigma[:, here], text, mask, share=share)
        films.append(team.whole(velocity, frames))
    return films


def two_chunks(team, config, sizes):
    """Velocities of chunks on a carried state, and the state where the chunks begin."""
    model, state, parts, start = model_of(config), None, [], 0
    latents, sigma, text, mask = inputs(sum(sizes))
    for frames in sizes:
        own, share = team.frames(frames), share_of(team, frames, causal=True)
        here = slice(start + own.start, start + own.stop)
        velocity, state = model.advance(
            latents[:, :, here], sigma[:, here], text, mask, (len(own),), state, share
        )
        parts.append(team.whole(velocity, frames))
        start += frames
    return torch.cat(parts, dim=2), state


def longsana(team, frames):
    model = model_of(PUBLIC)
    _, _, text, mask = inputs(1)

    def draw(place, step):
        rows = [inputs(1, seed=100 * step + frame)[0] for frame in place]
        return torch.cat(rows, dim=2)

    return torch.cat(list(roll(model, text, mask, draw, frames, team)), dim=2)


def test_two_processes_share_films_of_odd_lengths_and_chunks():
    roles = Roles(shards=2)
    for config in (OURS, PUBLIC):
        alone = one_pass_alone(config, (2, 5, 9))
        for films in spawned(one_pass, roles, config, (2, 5, 9)):
            for film, whole in zip(films, alone, strict=True):
                assert (film - whole).abs().max() < FP32 * whole.abs().max()


def one_pass_alone(config, counts):
    model = model_of(config)
    with torch.no_grad():
        return [model(*inputs(frames)) for frames in counts]


@pytest.mark.slow
@pytest.mark.parametrize("shards", [3, 4])
@pytest.mark.parametrize("config", [OURS, PUBLIC])
def test_uneven_parts_make_the_same_film(shards, config):
    counts = (shards, 2 * shards - 1, 13, 21)
    alone = one_pass_alone(config, counts)
    for films in spawned(one_pass, Roles(shards=shards), config, counts):
        for film, whole in zip(films, alone, strict=True):
            assert (film - whole).abs().max() < FP32 * whole.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("shards", [2, 3, 4])
@pytest.mark.parametrize("config", [OURS, PUBLIC])
def test_shared_chunks_carry_the_state_of_one_process(shards, config):
    sizes = (5, 4, 4)
    model, state, parts, start = model_of(config), None, [], 0
    latents, sigma, text, mask = inputs(sum(sizes))
    with torch.no_grad():
        for frames in sizes:
            here = slice(start, start + frames)
            velocity, state = model.advance(
                latents[:, :, here], sigma[:, here], text, mask, (frames,), state
            )
            parts.append(velocity)
            start += frames
    whole = torch.cat(parts, dim=2)
    results = spawned(two_chunks, Roles(shards=shards), config, sizes)
    for velocity, _ in results:
        assert (velocity - whole).abs().max() < FP32 * whole.abs().max()
    shared = results[0][1]
    assert shared.latent_frames == state.latent_frames
    for ours, theirs in zip(shared.layers, state.layers, strict=True):
        for a, b in zip((*ours.memory, ours.frame), (*theirs.memory, theirs.frame), strict=True):
            assert (a - b).abs().max() < FP32 * b.abs().max()


@pytest.mark.slow
def test_longsana_on_three_processes_is_longsana_on_one():
    with torch.no_grad():
        alone = longsana(ALL, 23)
    for shared in spawned(longsana, Roles(shards=3), 23):
        assert (shared - alone).abs().max() < 10 * FP32 * alone.abs().max()


def public_pipeline(team, folder):
    vae = Vae(name="AutoencoderKLWan", channels=4, temporal_stride=4, spatial_stride=8)
    model = PublicModel(
        folder=folder, transformer=PUBLIC, vae=vae, sampler="dpm", flow_shift=8.0, causal=False
    )
    running = Running(device=torch.device("cpu"), dtype=torch.float32, offload="none")
    pipe = OfficialPipeline(model, running, team)
    pipe._transformer = model_of(PUBLIC)
    return pipe


def guided_latents(team, folder, *, first):
    """The latents of a guided film of 7 latent frames, with a first frame given or not."""
    pipe = public_pipeline(team, folder)
    settings = OfficialConfig(width=64, height=32, frames=25, steps=4, guidance=3.0)
    _, _, text, mask = inputs(1)
    condition = ((text, mask), (-text, mask))
    given = inputs(1, seed=5)[0][:, :, :, :, :1].expand(1, 4, 1, 4, 8) if first else None
    noise = pipe.noise(settings)
    *_, own = pipe.denoise(noise, condition, settings, given)
    return team.whole(own, noise.shape[2])


def embedded_film(team, config):
    torch.manual_seed(0)
    parts = build(config)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for part in parts:
        part.eval().requires_grad_(False)
    pipe = Pipeline(name="tiny", model_hash="", config=config, parts=parts, team=team)
    settings = SampleConfig(width=64, height=64, frames=17, steps=3)
    events = list(pipe.stream("a red ball", settings))
    return [event.pixels for event in events if isinstance(event, Frames)]


@pytest.mark.slow
@pytest.mark.parametrize("roles", [Roles(sides=2), Roles(sides=2, shards=2), Roles(shards=3)])
@pytest.mark.parametrize("first", [False, True])
def test_a_guided_public_film_is_the_same_on_any_number_of_devices(roles, first, tmp_path):
    with torch.no_grad():
        alone = guided_latents(ALL, tmp_path, first=first)
    for shared in spawned(partial(guided_latents, first=first), roles, tmp_path):
        assert (shared - alone).abs().max() < 10 * FP32 * alone.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("roles", [Roles(sides=2), Roles(sides=2, shards=2), Roles(shards=2)])
def test_an_embedded_film_is_the_same_and_only_the_first_process_has_frames(roles, tiny):
    alone = torch.cat(embedded_film(ALL, tiny))
    first, *others = spawned(embedded_film, roles, tiny)
    assert (torch.cat(first).int() - alone.int()).abs().max() <= 1
    assert not any(others)


def moved(team, config, frames, causal):
    """Bytes that this process hands to torch.distributed in one pass."""
    sent = {"sums": 0, "frames": 0}
    reduce, swap = dist.all_reduce, dist.batch_isend_irecv

    def counting_reduce(tensor, **options):
        sent["sums"] += tensor.numel() * tensor.element_size()
        return reduce(tensor, **options)

    def counting_swap(calls):
        going = [call.tensor for call in calls if call.op is dist.isend]
        sent["frames"] += sum(tensor.numel() * tensor.element_size() for tensor in going)
        return swap(calls)

    dist.all_reduce, dist.batch_isend_irecv = counting_reduce, counting_swap
    latents, sigma, text, mask = inputs(frames)
    own, share = team.frames(frames), share_of(team, frames, causal=causal)
    latents, sigma = latents[:, :, own.start : own.stop], sigma[:, own.start : own.stop]
    if causal:
        model_of(config).advance(latents, sigma, text, mask, (len(own),), None, share)
    else:
        model_of(config)(latents, sigma, text, mask, share=share)
    return sent


@pytest.mark.slow
@pytest.mark.parametrize("config", [OURS, PUBLIC])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("frames", [3, 16])
def test_a_process_sends_what_the_formula_says_whatever_the_length(config, causal, frames):
    told = traffic_of(config, (4, 6), torch.float32, shards=3, causal=causal)
    first, middle, last = spawned(moved, Roles(shards=3), config, frames, causal)
    for sent in (first, middle, last):
        assert sent["sums"] == config.depth * told.sums
    assert middle["frames"] == config.depth * told.frames
    assert first["frames"] == config.depth * told.frames // 2
    assert last["frames"] == config.depth * told.frames // (1 if causal else 2)


def test_the_published_model_sends_one_megabyte_of_sums_and_two_frames_a_layer():
    config = replace(PUBLIC, width=2240, heads=20)
    told = traffic_of(config, (60, 104), torch.bfloat16, shards=4, causal=False)
    assert told.sums == 20 * 112 * 113 * 4
    assert told.frames == 2 * 30 * 52 * 2240 * 2


@given(count=st.integers(1, 300), shards=st.integers(1, 16))
def test_parts_are_all_frames_in_order_and_differ_by_one_at_most(count, shards):
    parts = [part_of(count, shard, shards) for shard in range(shards)]
    assert [frame for part in parts for frame in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert len(parts[0]) == max(map(len, parts))


@given(devices=st.integers(1, 16), guided=st.booleans(), by_chunks=st.booleans())
def test_every_device_has_one_role(devices, guided, by_chunks):
    roles = roles_of(devices, guided=guided, by_chunks=by_chunks, latent_frames=21)
    assert roles.devices == devices
    assert roles.sides == 1 or guided
    assert not roles.decodes or by_chunks


@pytest.mark.parametrize(
    ("devices", "guided", "by_chunks", "roles"),
    [
        (1, True, False, Roles()),
        (2, True, False, Roles(sides=2)),
        (3, True, False, Roles(shards=3)),
        (8, True, False, Roles(sides=2, shards=4)),
        (4, False, False, Roles(shards=4)),
        (2, False, True, Roles(decodes=True)),
        (4, False, True, Roles(shards=3, decodes=True)),
        (4, True, True, Roles(sides=2, shards=2)),
        (5, True, True, Roles(sides=2, shards=2, decodes=True)),
    ],
)
def test_guidance_is_split_first_then_frames_and_chunks_have_a_decoder(
    devices, guided, by_chunks, roles
):
    assert roles_of(devices, guided=guided, by_chunks=by_chunks, latent_frames=21) == roles


def test_more_devices_than_frames_are_refused_with_the_most_that_work():
    with pytest.raises(CannotHere, match="--gpus 4 or fewer"):
        roles_of(8, guided=True, by_chunks=False, latent_frames=2)
