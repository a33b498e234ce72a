"""What clients send: bodies made from the settings' own dataclasses, and JSON read strictly."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from longtake.config import Cue, SampleConfig, Sampling, frames_for
from longtake.errors import LongtakeError, PromptError, SettingError
from longtake.prompt import clean_prompt
from longtake.server.refusals import Refused, refusal_of

ALIASES = {
    "num_frames": "frames",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "flow_shift": "shift",
    "negative_prompt": "negative",
}
"""Names that other servers of this dialect use, and ours."""
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_MOST_TEXT = 40_000
_TWICE, _LARGE = "a key is given twice", "a number is too large"
_NAN, _DEEP = "NaN and Infinity are no numbers", "it is nested too deep"
_BROKEN = "it cannot be parsed as UTF-8 JSON"
PICTURES = ("input_reference", "image_reference")
"""Fields for the picture that a film begins with."""
_PLAIN = {
    "prompt", "model", "size", "seconds", "sampler", "video", "negative", "negative_prompt",
}  # fmt: skip
"""Fields whose text in a form is the value itself."""
_STRICT = ConfigDict(extra="forbid", strict=True)


class CueBody(BaseModel):
    """What happens from a time on."""

    model_config = _STRICT
    at_s: float = Field(description="Seconds from the start, above 0.")
    text: str = Field(max_length=_MOST_TEXT, description="What to show from then on.")


class TurnBody(CueBody):
    """What happens from a time on, and from which seed."""

    seed: int | None = Field(None, description="Another seed from then on.")


class PictureUrl(BaseModel):
    """A picture inside a data: URL; no other URL is ever opened."""

    model_config = _STRICT
    image_url: str


def _settings_fields() -> dict[str, Any]:
    """A field for every setting of a film, and for each of its other names."""
    hints = get_type_hints(SampleConfig)
    own = {field.name for field in fields(Sampling)}
    made: dict[str, Any] = {}
    for field in fields(SampleConfig):
        text = f"Default: {'that of the model' if field.name in own else field.default}."
        made[field.name] = (hints[field.name] | None, Field(None, description=text))
    for alias, name in ALIASES.items():
        made[alias] = (hints[name] | None, Field(None, description=f"The same as {name}."))
    return made


_PROMPT = Annotated[str, Field(max_length=_MOST_TEXT, description="What to show.")]
_SECONDS = Annotated[
    float | str | None, Field(None, description="Length in seconds, instead of frames.")
]
CreateVideo = create_model(
    "CreateVideo",
    __config__=_STRICT,
    __doc__="A film to be made.",
    prompt=(_PROMPT, ...),
    model=(str | None, Field(None, description="Name of the model; see /v1/models.")),
    seconds=_SECONDS,
    size=(str | None, Field(None, description="WIDTHxHEIGHT, instead of width and height.")),
    fps=(Literal[16] | None, Field(None, description="Films have 16 frames a second.")),
    n=(Literal[1] | None, Field(None, description="A request makes one film.")),
    prompt_at=(
        Annotated[list[CueBody], Field(max_length=1000)] | None,
        Field(None, description="How the prompt goes on, in the order of time."),
    ),
    scene=(
        str | None,
        Field(None, max_length=100, description="A name that the films of one scene share."),
    ),
    shot=(
        int | None,
        Field(None, ge=1, le=100_000, description="Which shot of the scene it is."),
    ),
    input_reference=(
        str | PictureUrl | None,
        Field(None, description="A picture to begin with, in base64 or as a data: URL."),
    ),
    image_reference=(
        str | PictureUrl | None,
        Field(None, description="The same as input_reference."),
    ),
    **_settings_fields(),
)


class VideoId(BaseModel):
    """A finished video."""

    model_config = _STRICT
    id: str


class ExtendVideo(BaseModel):
    """A film that is to go on."""

    model_config = _STRICT
    video: str | VideoId = Field(description="Which video goes on.")
    prompt: str | None = Field(None, max_length=_MOST_TEXT, description="What happens next.")
    seconds: float | str = Field(
        5.0, description="How long it goes on, from its end or from the block it turns off at."
    )
    from_block: int | None = Field(
        None, ge=1, le=10**6, description="Turn off before this block instead of at the end."
    )
    seed: int | None = Field(None, description="Another seed from there on.")
    prompt_at: Annotated[list[TurnBody], Field(max_length=1000)] | None = Field(
        None, description="What happens later; seconds count from the film's start."
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a new film, read and checked as far as no model is needed."""

    prompt: str
    model: str | None
    settings: SampleConfig
    cues: tuple[Cue, ...]
    picture: str | None
    """In base64."""
    scene: str
    shot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Going:
    """A request to go on with a film, read and checked as far as neither is needed."""

    video: str
    prompt: str | None
    added: int
    """Frames after the point from which it goes on."""
    from_block: int | None
    seed: int | None
    cues: tuple[Cue, ...]


def read_json(raw: bytes) -> Any:  # noqa: ANN401 - JSON
    """JSON as its standard has it: no NaN, no key twice, no number or depth beyond all bounds.

    Raises:
        Refused: anything else.
    """

    def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _bad_json(_TWICE)
        return found

    def number(text: str) -> float:
        if math.isinf(value := float(text)):
            raise _bad_json(_LARGE)
        return value

    def constant(_text: str) -> float:
        raise _bad_json(_NAN)

    def whole(text: str) -> int:
        if len(text) > 400:
            raise _bad_json(_LARGE)
        return int(text)

    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=once, parse_float=number, parse_constant=constant, parse_int=whole,
        )  # fmt: skip
    except RecursionError:
        raise _bad_json(_DEEP) from None
    except ValueError:
        raise _bad_json(_BROKEN) from None


def read_form(form: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The fields of a form as a JSON body would have them.

    Raises:
        Refused: a field twice, or one that is to be JSON and is not.
    """
    found: dict[str, Any] = {}
    for name, text in form:
        if name in found:
            raise Refused(422, "invalid_request", "the field is given twice", param=name)
        if name in _PLAIN or (name in PICTURES and not text.startswith("{")):
            found[name] = text
        elif text:
            found[name] = read_json(text.encode("utf-8", "surrogatepass"))
    return found


def read_wanted(data: Any, defaults: SampleConfig) -> Wanted:  # noqa: ANN401 - any JSON
    """A request for a new film; what it does not say is the model's own default.

    Raises:
        Refused: a field that is unknown, of the wrong type, out of range, or against another.
    """
    body = validated(CreateVideo, data).model_dump(exclude_none=True)
    values = _settings_of(body)
    try:
        settings = replace(defaults, **values)
    except SettingError as error:
        named = str(error).partition(" ")[0]
        raise refusal_of(error, named if named in values else None) from None
    cues = body.get("prompt_at", ())
    return Wanted(
        prompt=_cleaned(body["prompt"], "prompt"),
        model=body.get("model"),
        settings=settings,
        cues=tuple(_cue(cue, f"prompt_at.{n}") for n, cue in enumerate(cues)),
        picture=_picture(body),
        scene=_printable(body.get("scene", "")),
        shot=body.get("shot", 0),
    )


def read_extension(data: Any) -> Going:  # noqa: ANN401
    """Which video goes on, from where, with which words, by how many frames.

    Raises:
        Refused: a field that is unknown, of the wrong type or out of range.
    """
    body = validated(ExtendVideo, data)
    video = body.video if isinstance(body.video, str) else body.video.id
    prompt = None if body.prompt is None else _cleaned(body.prompt, "prompt")
    cues = [cue.model_dump() for cue in body.prompt_at or ()]
    return Going(
        video=video,
        prompt=prompt,
        added=_frames(body.seconds) - 1,
        from_block=body.from_block,
        seed=body.seed,
        cues=tuple(_cue(cue, f"prompt_at.{n}") for n, cue in enumerate(cues)),
    )


def validated(model: type[BaseModel], data: Any) -> Any:  # noqa: ANN401 - one of the models above
    """A body of the right shape.

    Raises:
        Refused: the first thing that is wrong, with the place.
    """
    if not isinstance(data, Mapping):
        raise Refused(422, "invalid_request", "the body must be a JSON object")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:200]
        hint = f"; fields are {', '.join(sorted(model.model_fields))}"
        unknown = first["type"] == "extra_forbidden"
        text = f"unknown field{hint}" if unknown else first["msg"]
        raise Refused(422, "invalid_request", text, param=_printable(place)) from None


def _settings_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by our names.

    Raises:
        Refused: the same thing said in two ways.
    """
    values = {f.name: body[f.name] for f in fields(SampleConfig) if f.name in body}
    for alias, name in ALIASES.items():
        if alias in body:
            _refuse_twice(alias, name, name in values)
            values[name] = body[alias]
    if "seconds" in body:
        _refuse_twice("seconds", "frames", "frames" in values)
        values["frames"] = _frames(body["seconds"])
    if values.get("negative"):
        values["negative"] = _cleaned(values["negative"], "negative")
    if "size" in body:
        _refuse_twice("size", "width and height", bool({"width", "height"} & values.keys()))
        match = _SIZE.fullmatch(body["size"])
        if match is None:
            text = "size is WIDTHxHEIGHT, as 448x256"
            raise Refused(422, "invalid_setting", text, param="size")
        values["width"], values["height"] = int(match[1]), int(match[2])
    return values


def _refuse_twice(one: str, other: str, both: bool) -> None:
    if both:
        text = f"{one} and {other} exclude each other; give one"
        raise Refused(422, "invalid_setting", text, param=one)


def _frames(seconds: float | str) -> int:
    try:
        return frames_for(float(seconds))
    except (ValueError, OverflowError):
        text = 'seconds is a number, as 5 or "5"'
    except SettingError as error:
        text = str(error)
    raise Refused(422, "invalid_setting", text, param="seconds")


def _cleaned(text: str, param: str) -> str:
    try:
        return clean_prompt(text)
    except PromptError as error:
        raise refusal_of(error, param) from None


def _cue(cue: Mapping[str, Any], param: str) -> Cue:
    try:
        seed = cue.get("seed")
        text = "" if seed is not None and not cue["text"] else clean_prompt(cue["text"])
        return Cue(at_s=cue["at_s"], text=text, seed=seed)
    except LongtakeError as error:
        raise refusal_of(error, param) from None


def _picture(body: Mapping[str, Any]) -> str | None:
    given = [body[name] for name in PICTURES if name in body]
    if not given:
        return None
    _refuse_twice(*PICTURES, len(given) > 1)
    text = given[0] if isinstance(given[0], str) else given[0]["image_url"]
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise _no_url()
    if ":" in text:
        raise _no_url()
    return text


def _no_url() -> Refused:
    text = "pictures come as uploads or in base64; no address is ever opened"
    return Refused(422, "url_not_supported", text, param="input_reference")


def _bad_json(why: str) -> Refused:
    return Refused(400, "invalid_json", f"the body is not JSON: {why}")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
