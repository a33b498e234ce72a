"""`longtake compare chain`: measures see what they name, sides are fair, faults are one line."""

import json
import re
import shlex
import types
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from longtake import pipeline
from longtake.cli.app import app
from longtake.cli.main import DONE, run
from longtake.config import SampleConfig, Sampling
from longtake.errors import CannotHere, ModelError
from longtake.evaluate import chain, chain_public, rolls, takes
from longtake.evaluate.chain_film import FOOT, HEAD, side_by_side
from longtake.evaluate.chain_report import NAMES, Measured, measured_of, table_markdown
from longtake.evaluate.drift import MEASURES, curves
from longtake.evaluate.reader import read
from longtake.evaluate.reader.readings import Detail, FilmReading, SubjectReading
from longtake.evaluate.scope import COLOURS, KINDS
from longtake.media.frames import frames_of
from longtake.pipeline import Pipeline, build
from longtake.recipes.recipe import world_words
from longtake.rollout.grid import Grid
from longtake.world.level import ACTION

if find_spec("diffusers") and find_spec("transformers"):
    import diffusers
    import transformers
    from diffusers.pipelines.wan import pipeline_wan_i2v
    from tokenizers import Tokenizer, models, pre_tokenizers

GUIDE = (Path(__file__).parents[1] / "docs/guides/compare.md").read_text("utf-8")
COMMANDS = re.findall(r"^longtake (compare chain.*?)(?:\s+#.*)?$", GUIDE, re.MULTILINE)
FILES = {"report.json", "table.md", "over_time.png", "sheet.png", "side_by_side.mp4"}
TEXTS = ("a ball on grass",) * 4


class Told(read.Reader):
    """Says of every film that it shows one subject."""

    def __init__(self, colour="red", kind="sphere"):
        super().__init__(None)
        self.subject = SubjectReading(
            colour=colour, kind=kind, size=None, motion=None, slot=None, seen=1.0, across=0.5,
            way_m=(0.0, 0.0),
        )  # fmt: skip

    def read(self, film, fps):  # noqa: ARG002
        return FilmReading(
            explained=True, unexplained=0.0, light="day", ground=None, camera=None, shot=None,
            subjects=(self.subject,), detail=Detail(space=0.0, time=0.0),
        )  # fmt: skip


@pytest.fixture
def pipe(tiny):
    torch.manual_seed(0)
    config = replace(tiny, words=world_words(ACTION), chunk=5, max_frames=961)
    config = replace(config, text=replace(config.text, max_tokens=96))
    parts = build(config)
    torch.nn.init.normal_(parts[1].head.weight, std=0.1)
    for part in parts:
        part.eval().requires_grad_(False)
    return Pipeline(name="tiny", model_hash="0" * 64, config=config, parts=parts)


SCRIPTS, TRUTHS = cache(rolls.script_of), cache(takes.truth_of)


@pytest.fixture(autouse=True)
def _truths_once(monkeypatch):
    """What is true of a script takes seconds."""
    monkeypatch.setattr(chain, "script_of", SCRIPTS)
    monkeypatch.setattr(chain, "truth_of", TRUTHS)


@pytest.fixture
def maker(pipe):
    return rolls.Maker(pipe=pipe, settings=SampleConfig(width=96, height=64, steps=1))


class Clips:
    """Stands in for a pipeline of diffusers: a film that grows brighter from its picture on."""

    def __init__(self, last=99):
        self.calls, self.last = [], last
        config = types.SimpleNamespace(
            sample_width=12, sample_height=8, sample_frames=9, patch_size_t=None
        )
        self.transformer = types.SimpleNamespace(config=config)
        self.vae_scale_factor_spatial = 8

    def set_progress_bar_config(self, disable):
        self.silent = disable

    def __call__(self, image, prompt, num_frames, num_inference_steps=50, **rest):
        if len(self.calls) == self.last:
            msg = "CUDA out of memory\nand a long tail"
            raise RuntimeError(msg)
        self.calls.append({"prompt": prompt, "size": image.size, "steps": num_inference_steps,
                           "seed": rest["generator"].initial_seed()})  # fmt: skip
        first = torch.tensor(list(image.getdata())).reshape(rest["height"], rest["width"], 3) / 255
        film = first + torch.linspace(0, 0.08, num_frames)[:, None, None, None]
        return types.SimpleNamespace(frames=[film.numpy()])


def public_of(pipe, **given):
    return chain_public.clips_of(
        pipe, "CogVideoXImageToVideoPipeline", "cog", size=(64, 96), grid=Grid(5), **given
    )


def still(frames, level=100):
    return torch.full((frames, 32, 32, 3), level, dtype=torch.uint8)


def test_excess_change_is_the_same_for_a_jump_and_for_the_same_change_spread_out():
    true = still(48)
    jump, spread = true.clone(), true.clone()
    jump[20:] += 40
    for frame in range(20, 48):
        spread[frame] += min(5 * (frame - 19), 40)
    sums = [takes.excess_change(curves([f], 16), curves([true], 16)).sum() for f in (jump, spread)]
    assert sums == pytest.approx([40, 40])
    assert takes.excess_change(curves([true], 16), curves([true], 16)).sum() == 0


def test_excess_change_asks_nothing_where_the_true_film_cuts():
    cut = still(48)
    cut[20:] += 60
    late = still(48)
    late[21:] += 60
    assert takes.excess_change(curves([cut], 16), curves([cut], 16)).sum() == 0
    assert takes.excess_change(curves([late], 16), curves([cut], 16)).sum() == pytest.approx(60)


def test_who_returns_is_right_by_colour_and_kind_and_unknown_in_a_film_too_short():
    script = takes.recall_script(rolls.script_of(0, 1), 5)
    colour = COLOURS[script.scene.colour[0, 0]].name
    kind = KINDS[script.scene.kind[0, 0]].name
    other = next(one.name for one in COLOURS if one.name != colour)
    film, truth = still(16 * script.length_s + 1), takes.truth_of(script)
    assert takes.returned(film, script, truth, Told(colour, kind)) == 1
    assert takes.returned(film, script, truth, Told(other, kind)) == 0.5
    assert takes.returned(film[:200], script, truth, Told(colour, kind)) is None


def test_a_chain_with_overlap_is_the_take_until_the_first_join_and_another_after_it(maker):
    take = rolls.roll(maker, TEXTS)
    chained = torch.cat(list(rolls.overlapping(maker, TEXTS, 2, 5)))
    assert torch.equal(chained[:41], take[:41])
    assert not torch.equal(chained[41:], take[41:])
    whole = torch.cat(list(rolls.overlapping(maker, TEXTS, 4, 5)))
    assert torch.equal(whole, take)


def test_clips_of_a_chain_fill_the_same_frames_as_the_take_whatever_their_length(maker):
    films = [torch.cat(list(rolls.chained(maker, TEXTS, clip))) for clip in (1, 3, 4)]
    assert [len(film) for film in films] == [81, 81, 81]
    assert torch.equal(films[2], rolls.roll(maker, TEXTS))
    assert rolls.borders_of(maker.grid, 81, 3) == [61]


def test_every_side_is_filmed_and_the_truth_is_its_own_measure(maker, monkeypatch):
    monkeypatch.setattr(chain, "_parts", quick(chain._parts, still_from_s=25))
    contest = chain.Contest(scripts=1, seconds=10, clip_chunks=5)
    sides = chain.sides_of(contest, None)
    assert sides == ("take", "chain", "overlap", "truth")
    events = list(chain.compare(maker, contest, Told()))
    made = sum(event.frames for event in events if isinstance(event, chain.Progress))
    assert made == chain.frames_in_all(contest, len(sides))
    [row] = [event for event in events if isinstance(event, chain.Compared)]
    assert {len(film) for film in row.films.values()} == {161}
    assert torch.equal(row.films["take"][:101], row.films["chain"][:101])
    truth = chain.figures(row.seen["truth"], row.seen["truth"])
    assert (truth.at_joins, truth.elsewhere, truth.excess) == (1, 1, 0)
    assert set(truth.apart.values()) == {0}
    take = chain.figures(row.seen["take"], row.seen["truth"])
    assert take.excess > 0
    table = table_markdown(measured_of([row])).splitlines()
    assert table[0].endswith("| one take | chain | chain, overlap | true film |")
    assert len({line.count("|") for line in table}) == 1


def test_a_public_chain_begins_where_the_take_does_and_goes_on_from_its_own_last_frame():
    stub = Clips()
    clips = public_of(stub, steps=3)
    texts = ("red", "red", "blue", "blue", "blue")
    first = torch.full((64, 96, 3), 100, dtype=torch.uint8)
    parts = list(chain_public.chained_public(clips, texts, first, 7))
    assert [len(part) for part in parts] == [21, 20, 20, 20, 20]
    film = torch.cat(parts).float().mean((1, 2, 3))
    assert film[0] == pytest.approx(100, abs=1)
    # A step a clip, spread evenly: no frame stands still, none leaps.
    assert film.diff().max() <= 2
    assert film[-1] == pytest.approx(100 + 5 * 0.08 * 255, abs=5)
    assert [call["prompt"] for call in stub.calls] == ["red", "red", "blue", "blue", "blue"]
    assert [call["seed"] for call in stub.calls] == [7, 8, 9, 10, 11]
    assert {call["steps"] for call in stub.calls} == {3}
    assert {call["size"] for call in stub.calls} == {(96, 64)}


def test_a_clip_is_told_all_captions_that_fall_into_it_once():
    stub = Clips()
    clips = replace(
        public_of(stub), legal=chain_public.Legal(width=32, height=32, frames=41, fps=16)
    )
    picture = torch.zeros(64, 96, 3, dtype=torch.uint8)
    parts = list(chain_public.chained_public(clips, ("red", "red", "blue"), picture, 0))
    assert [call["prompt"] for call in stub.calls] == ["red", "blue"]
    assert [len(part) for part in parts] == [41, 20]
    assert stub.calls[0]["steps"] == 50


def test_legal_sizes_are_those_the_checkpoints_were_trained_for():
    pipe = Clips()
    pipe.transformer.config = types.SimpleNamespace(patch_size=(1, 2, 2))
    wan = chain_public.legal_of("WanImageToVideoPipeline", pipe, (256, 448))
    assert (wan.width, wan.height, wan.frames, wan.fps) == (832, 480, 81, 16)
    pipe.transformer.config = types.SimpleNamespace(
        sample_width=90, sample_height=60, sample_frames=49, patch_size_t=None
    )
    cog = chain_public.legal_of("CogVideoXImageToVideoPipeline", pipe, (256, 448))
    assert (cog.width, cog.height, cog.frames, cog.fps) == (720, 480, 49, 8)


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        (None, "is not a folder"),
        ("{", "has no readable model_index.json"),
        ({"_class_name": "SanaVideoPipeline"}, "is of kind SanaVideoPipeline"),
        ([], "is of kind None"),
        (
            {"_class_name": "WanImageToVideoPipeline", "vae": ["evil", "Vae"]},
            "names code of 'evil', which is not run",
        ),
    ],
)
def test_a_folder_of_another_kind_is_named_in_one_line(tmp_path, index, complaint):
    folder = tmp_path / "wan"
    if index is not None:
        folder.mkdir()
        text = index if isinstance(index, str) else json.dumps(index)
        (folder / "model_index.json").write_text(text)
    with pytest.raises(ModelError) as error:
        chain_public.load_clips(folder, size=(64, 96), grid=Grid(5))
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_what_a_pipeline_needs_is_told_before_anything_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanImageToVideoPipeline"}')
    monkeypatch.setattr(chain_public, "find_spec", lambda _name: None)
    with pytest.raises(CannotHere, match="pip install accelerate ftfy$"):
        chain_public.load_clips(tmp_path, size=(64, 96), grid=Grid(5))


def test_a_public_chain_that_fails_is_left_out_and_the_rest_is_compared(maker, monkeypatch):
    monkeypatch.setattr(chain, "_parts", quick(chain._parts))
    contest = chain.Contest(scripts=1, seconds=10, shared=0)
    events = list(chain.compare(maker, contest, Told(), public_of(Clips(last=2))))
    [lost] = [event for event in events if isinstance(event, chain.Lost)]
    assert lost.reason == "cog failed at a clip: CUDA out of memory"
    [row] = [event for event in events if isinstance(event, chain.Compared)]
    assert list(row.films) == ["take", "chain", "truth"]


def test_a_public_chain_has_a_column_with_joins_of_its_own(maker, monkeypatch):
    monkeypatch.setattr(chain, "_parts", quick(chain._parts))
    contest = chain.Contest(scripts=1, seconds=10, shared=0)
    events = chain.compare(maker, contest, Told(), public_of(Clips()))
    [row] = [event for event in events if isinstance(event, chain.Compared)]
    assert list(row.seen) == ["take", "chain", "public", "truth"]
    assert row.seen["chain"].joins == (101,)
    assert row.seen["public"].joins == (21, 41, 61, 81, 101, 121, 141)
    assert torch.equal(row.films["public"][0], row.films["take"][0])


def quick(parts, still_from_s=0):
    """Still films in place of our own of so many seconds, for tests of what stands beside them."""

    def fake(side, maker, contest, told, public, picture):
        if side == "public" or told.seconds < still_from_s:
            return parts(side, maker, contest, told, public, picture)
        return iter([torch.full((told.seconds * 16 + 1, 64, 96, 3), 90, dtype=torch.uint8)])

    return fake


def test_the_film_shows_the_sides_untouched_under_names_that_count_clips():
    levels = {"take": 10, "chain": 20, "truth": 30}
    sides = {side: still(41, level).repeat(1, 1, 6, 1) for side, level in levels.items()}
    joins = dict.fromkeys(sides, (21,))
    film = torch.cat(list(side_by_side(sides, NAMES, joins, ("a red ball", "a blue ball"))))
    assert film.shape == (41, HEAD + 32 + FOOT, 3 * 192, 3)
    assert torch.equal(film[:, HEAD:-FOOT], torch.cat(list(sides.values()), dim=2))
    heads, feet = film[:, :HEAD], film[:, -FOOT:]
    assert torch.equal(heads[16, :, :384], heads[20, :, :384])
    assert not torch.equal(heads[20, :, 192:384], heads[21, :, 192:384])
    assert torch.equal(feet[1], feet[20])
    assert not torch.equal(feet[20], feet[21])


def test_a_cell_tells_mean_least_and_most_of_the_scripts_and_nothing_where_nothing_is_known():
    plain = chain.Figures(
        at_joins=1.0, elsewhere=1.0, excess=10.0, excess_at_joins=float("nan"), returned=None,
        recalled=100.0, right=(90.0, 80.0), apart=dict.fromkeys(MEASURES, 0.5), inside=100.0,
    )  # fmt: skip
    other = replace(plain, at_joins=3.0, recalled=0.0)
    table = table_markdown([Measured(side="take", name="one take", each=(plain, other))])
    cells = dict(line.strip("| ").split(" | ")[::2] for line in table.splitlines())
    assert cells["change at joins / true film's"] == "2.00 (1.00-3.00)"
    assert cells["excess change, whole film, levels"] == "10"
    assert cells["of it at joins"] == cells["returns as who left, %"] == "-"
    assert cells["unnamed colour kept, %"] == "50 (0-100)"
    assert cells["attributes right, last 10 s, %"] == "80"


@pytest.fixture
def folder(pipe, tmp_path, monkeypatch):
    sampling = replace(Sampling(), steps=1)
    monkeypatch.setattr(pipe, "config", replace(pipe.config, sampling=sampling))
    own = SampleConfig(width=96, height=64, steps=1)
    monkeypatch.setattr(Pipeline, "defaults", property(lambda _: own))
    monkeypatch.setattr(pipeline, "load", lambda *_, **__: pipe)
    monkeypatch.setattr(read, "load_reader", lambda *_, **__: Told())
    monkeypatch.setattr(chain, "_parts", quick(chain._parts))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_of(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    return lines[0]


def test_the_verb_writes_report_table_plot_and_films(folder, capsys):
    assert run(["compare", "chain", "--scripts", "1", "--seconds", "15", "-o", "there"]) == DONE
    told = capsys.readouterr()
    assert "one take" in told.out
    assert "note: clips of 6.25 s: the nearest whole chunks to 6 s" in told.err
    assert {path.name for path in (folder / "there").iterdir()} == FILES
    report = json.loads((folder / "there" / "report.json").read_text())
    assert list(report["sides"]) == ["take", "chain", "overlap", "truth"]
    assert report["sides"]["take"]["scripts"] == 1
    assert len(report["sides"]["take"]["means"]["right"]) == 2
    assert report["contest"]["clip_s"] == 6.25
    film = folder / "there" / "side_by_side.mp4"
    assert sum(len(part) for part in frames_of(film)) == 241
    assert run(["compare", "chain", "--scripts", "1", "--seconds", "15", "-o", "there"]) == 2
    assert "exists already; add --overwrite" in error_of(capsys)


def test_a_missing_checkpoint_is_one_line_and_the_rest_runs_and_is_printed(folder, capsys):
    words = ["--scripts", "1", "--seconds", "15", "--overlap", "0", "--chain-model", "nowhere"]
    assert run(["compare", "chain", *words, "--json"]) == DONE
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report == json.loads((folder / "comparison" / "report.json").read_text())
    assert list(report["sides"]) == ["take", "chain", "truth"]
    lines = [line for line in told.err.splitlines() if "nowhere" in line]
    assert lines == [f"note: {report['notes'][0]}"]
    assert "nowhere is not a folder" in lines[0]
    assert report["public"] is None


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--seconds", "17"], "steps of 5, got 17; the nearest is 15"),
        (["--seconds", "90"], "got 90; the nearest is 60"),
        (["--scripts", "0"], "scripts must be 1 or more, got 0"),
        (["--clip", "50"], "at most half of the 60 seconds, got 50; try 6"),
        (["--clip", "-1"], "clip must be above 0"),
        (["--overlap", "-1"], "overlap must be 0 or more"),
        (["--overlap", "9"], "overlap can be 2.5 s at most"),
        (["--steps", "0"], "steps must be 1 to 1000"),
        (["--chain-steps", "0"], "chain-steps must be 1 or more, got 0"),
        (["film.mp4"], "a comparison takes options only, got 'film.mp4'"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(words, complaint, capsys):
    assert run(["compare", "chain", *words]) == 2
    assert complaint in error_of(capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_guide_can_be_given(command):
    bound = app.parse_args(shlex.split(command), print_error=False, exit_on_error=False)
    assert bound[0].__name__ == "chain"
    assert COMMANDS


needs_diffusers = pytest.mark.skipif(
    not (find_spec("diffusers") and find_spec("transformers")), reason="needs longtake[official]"
)


def text_parts(config, encoder):
    words = ["<pad>", "</s>", "<unk>", *["a", "red", "ball", "on", "grass"]]
    raw = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    small = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return {
        "tokenizer": tokenizer,
        "text_encoder": getattr(transformers, encoder)(
            getattr(transformers, config)(vocab_size=64, **small)
        ),
    }


def check_clips(clips):
    """The library takes our call, frames are on our grid, and another seed makes others."""
    picture = torch.full((64, 96, 3), 200, dtype=torch.uint8)
    one, again, other = (clips.clip("a red ball", picture, seed).float() for seed in (0, 0, 1))
    assert one.shape == (clips.frames, 64, 96, 3)
    # The library is not exact from run to run on every processor.
    assert (one - again).abs().mean() < 0.1
    assert (one - other).abs().mean() > 0.5


@needs_diffusers
@pytest.mark.conformance
def test_a_tiny_wan_pipeline_makes_clips_on_our_grid(monkeypatch):
    # The library fails at any prompt without ftfy; what that mends is not our concern here.
    clean = types.SimpleNamespace(fix_text=lambda text: text)
    monkeypatch.setattr(pipeline_wan_i2v, "ftfy", clean, raising=False)
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2,
              "num_attention_heads": 2, "image_size": 32, "patch_size": 16}  # fmt: skip
    pipe = diffusers.WanImageToVideoPipeline(
        **text_parts("UMT5Config", "UMT5EncoderModel"),
        vae=diffusers.AutoencoderKLWan(
            base_dim=8, z_dim=4, dim_mult=[1, 1, 2, 2], num_res_blocks=1,
            latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        image_processor=transformers.CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        image_encoder=transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**vision)),
        transformer=diffusers.WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=12, in_channels=12, out_channels=4,
            text_dim=16, freq_dim=32, ffn_dim=32, num_layers=1, image_dim=8, added_kv_proj_dim=24,
        ),
    )  # fmt: skip
    clips = chain_public.clips_of(
        pipe, "WanImageToVideoPipeline", "wan", size=(64, 96), grid=Grid(5), steps=1
    )
    assert clips.chunks == 4
    small = replace(clips.legal, width=32, height=32, frames=9)
    check_clips(replace(clips, legal=small))


@needs_diffusers
@pytest.mark.conformance
def test_a_tiny_cogvideox_folder_is_loaded_and_makes_clips_on_our_grid(tmp_path):
    down, up = ("CogVideoXDownBlock3D",) * 4, ("CogVideoXUpBlock3D",) * 4
    pipe = diffusers.CogVideoXImageToVideoPipeline(
        **text_parts("T5Config", "T5EncoderModel"),
        vae=diffusers.AutoencoderKLCogVideoX(
            down_block_types=down, up_block_types=up, block_out_channels=(8,) * 4,
            latent_channels=4, layers_per_block=1, norm_num_groups=2,
        ),
        transformer=diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=2, attention_head_dim=16, in_channels=8, out_channels=4,
            time_embed_dim=2, text_embed_dim=16, num_layers=1, sample_width=4, sample_height=4,
            sample_frames=9, use_rotary_positional_embeddings=True,
            use_learned_positional_embeddings=True,
        ),
        scheduler=diffusers.CogVideoXDDIMScheduler(),
    )  # fmt: skip
    pipe.save_pretrained(tmp_path / "cog")
    clips = chain_public.load_clips(tmp_path / "cog", size=(64, 96), grid=Grid(5), steps=1)
    assert clips.name == "cog"
    assert "9 frames of 32x32 at 8 a second in 1 steps" in clips.told()
    check_clips(clips)
