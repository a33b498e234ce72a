"""The app: its verbs, and its parser's complaints in our words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args, get_origin

from cyclopts import App
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from longtake import __version__
from longtake.cli.animatic import animatic
from longtake.cli.batch import batch
from longtake.cli.bench import bench
from longtake.cli.branch import branch
from longtake.cli.compare import compare
from longtake.cli.data import data
from longtake.cli.drift import drift
from longtake.cli.evaluate import evaluate
from longtake.cli.extend import extend
from longtake.cli.finetune import finetune
from longtake.cli.generate import generate
from longtake.cli.lora import lora
from longtake.cli.precision_verbs import precision_report, quantize, selftest
from longtake.cli.precompute import precompute
from longtake.cli.prompt import STDIN
from longtake.cli.public_verbs import convert, doctor, plan
from longtake.cli.reproduce import reproduce
from longtake.cli.resume import resume
from longtake.cli.serve import serve
from longtake.cli.shoot import shoot
from longtake.cli.train import train
from longtake.errors import SettingError

app = App(
    name="longtake",
    help="One prompt, one take: makes a film from a sentence.",
    version=f"longtake {__version__}",
    help_format="plaintext",
)
# Named here, or their usage lines would show how Python was started.
app.command(App(name="generate", default_command=generate))
app.command(App(name="resume", default_command=resume))
app.command(App(name="extend", default_command=extend))
app.command(App(name="branch", default_command=branch))
app.command(App(name="plan", default_command=plan))
app.command(App(name="doctor", default_command=doctor))
app.command(App(name="convert", default_command=convert))
app.command(App(name="quantize", default_command=quantize))
app.command(App(name="precision-report", default_command=precision_report))
app.command(App(name="selftest", default_command=selftest))
app.command(App(name="shoot", default_command=shoot))
app.command(App(name="animatic", default_command=animatic))
app.command(App(name="reproduce", default_command=reproduce))
app.command(App(name="serve", default_command=serve))
app.command(App(name="batch", default_command=batch))
app.command(App(name="train", default_command=train))
app.command(data)
app.command(App(name="precompute", default_command=precompute))
app.command(App(name="finetune", default_command=finetune))
app.command(lora)
app.command(App(name="evaluate", default_command=evaluate))
app.command(App(name="drift", default_command=drift))
app.command(compare)
app.command(App(name="bench", default_command=bench))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verb:
    """How a verb's arguments are spoken of."""

    missing: str
    one: str
    dash: str


_VERBS = {
    "generate": _Verb(
        missing='the prompt is missing; try: longtake generate "a red ball bounces on grass"',
        one="one prompt makes one film, got {!r} as well; put the prompt in quotes",
        dash="a prompt that starts with - goes after --",
    ),
    "resume": _Verb(
        missing="the take is missing; try: longtake resume film.longtake",
        one="one take is resumed at a time, got {!r} as well; put a name with spaces in quotes",
        dash="a name that starts with - goes after --",
    ),
    "extend": _Verb(
        missing='the film is missing; try: longtake extend film.mp4 "the sun sets" --seconds 20',
        one="a film and a prompt make one film, got {!r} as well; put the prompt in quotes",
        dash="a prompt that starts with - goes after --",
    ),
    "branch": _Verb(
        missing='take or prompt is missing; try: longtake branch film.longtake --at 30s "it rains"',
        one="a take and a prompt make one film, got {!r} as well; put the prompt in quotes",
        dash="a prompt that starts with - goes after --",
    ),
    "plan": _Verb(
        missing="the model is missing; try: longtake plan --model FOLDER",
        one="plan takes options only, got {!r}; try: longtake plan --model FOLDER",
        dash="options begin with --",
    ),
    "doctor": _Verb(
        missing="the model is missing; try: longtake doctor --model FOLDER",
        one="doctor takes options only, got {!r}; try: longtake doctor --model FOLDER",
        dash="options begin with --",
    ),
    "convert": _Verb(
        missing="the file is missing; try: longtake convert model.pth --out FOLDER",
        one="one file is converted at a time, got {!r} as well; put a name with spaces in quotes",
        dash="a file that starts with - goes after --",
    ),
    "quantize": _Verb(
        missing="the model is missing; try: longtake quantize previz --precision fp8 -o FOLDER",
        one="one model is stored at a time, got {!r} as well; put a name with spaces in quotes",
        dash="a folder that starts with - goes after --",
    ),
    "precision-report": _Verb(
        missing="the model is missing; try: longtake precision-report previz",
        one="one model is measured at a time, got {!r} as well; put a name with spaces in quotes",
        dash="a folder that starts with - goes after --",
    ),
    "selftest": _Verb(
        missing="an option is missing; try: longtake selftest nvfp4",
        one="one format is tried at a time, got {!r} as well; without a name both are",
        dash="its options begin with --",
    ),
    "shoot": _Verb(
        missing="the shot list is missing; try: longtake shoot examples/scene.csv -o scene",
        one="one list makes one scene, got {!r} as well; put a name with spaces in quotes",
        dash="a file that starts with - goes after --",
    ),
    "animatic": _Verb(
        missing="the shot list is missing; try: longtake animatic examples/scene.csv -o scene.mp4",
        one="one list makes one animatic, got {!r} as well; put a name with spaces in quotes",
        dash="a file that starts with - goes after --",
    ),
    "reproduce": _Verb(
        missing="the film is missing; try: longtake reproduce film.mp4",
        one="one film is made again at a time, got {!r} as well; put a name with spaces in quotes",
        dash="a file that starts with - goes after --",
    ),
    "serve": _Verb(
        missing="an option is missing; try: longtake serve --port 8000",
        one="a server takes options alone, got {!r}; try: longtake serve --data FOLDER",
        dash="its options begin with --",
    ),
    "batch": _Verb(
        missing="the list is missing; try: longtake batch prompts.txt -o films",
        one="one list makes one folder, got {!r} as well; put a name with spaces in quotes",
        dash="a file that starts with - goes after --",
    ),
    "train": _Verb(
        missing="the recipe is missing; try: longtake train previz --out FOLDER",
        one="one recipe makes one model, got {!r} as well; put a name with spaces in quotes",
        dash="a file that starts with - goes after --",
    ),
    "data prepare": _Verb(
        missing="the films are missing; try: longtake data prepare FOLDER --out clips",
        one="one folder of films is prepared, got {!r} as well; put a name with spaces in quotes",
        dash="a folder that starts with - goes after --",
    ),
    "precompute": _Verb(
        missing="the clips are missing; try: longtake precompute clips --out latents",
        one="one folder of clips is encoded, got {!r} as well; put a name with spaces in quotes",
        dash="a folder that starts with - goes after --",
    ),
    "finetune": _Verb(
        missing="the clips are missing; try: longtake finetune FOLDER --out mine",
        one="one folder makes one LoRA, got {!r} as well; put a name with spaces in quotes",
        dash="a folder that starts with - goes after --",
    ),
    "lora merge": _Verb(
        missing="the LoRA is missing; try: longtake lora merge lora.safetensors --out mine",
        one="LoRAs are files, got {!r} as well; put a name with spaces in quotes",
        dash="a file that starts with - goes after --",
    ),
    "evaluate": _Verb(
        missing="the prompt is missing; try: longtake evaluate --films 16",
        one="one prompt is read at a time, got {!r} as well; put it in quotes, or use --prompts",
        dash="a prompt that starts with - goes after --",
    ),
    "drift": _Verb(
        missing="the film is missing; try: longtake drift film.mp4",
        one="one film is measured at a time, got {!r} as well; put a name with spaces in quotes",
        dash="a name that starts with - goes after --",
    ),
    "compare chain": _Verb(
        missing="an option is missing; try: longtake compare chain --scripts 4",
        one="a comparison takes options only, got {!r}; try: longtake compare chain --scripts 4",
        dash="options begin with --",
    ),
    "bench": _Verb(
        missing="an option is missing; try: longtake bench --model previz",
        one="bench takes options only, got {!r}; try: longtake bench --model previz",
        dash="options begin with --",
    ),
}
_WANTED = {"int": "a whole number", "float": "a number"}


def dispatch(arguments: Sequence[str]) -> None:
    """Parse the arguments and run the verb.

    Raises:
        SettingError: arguments that do not parse.
        LongtakeError: whatever the verb raises.
    """
    # The parser takes a lone dash for an option; the mark cannot stand in a real argument.
    tokens = [STDIN if token == "-" else token for token in arguments]
    try:
        command, bound, _ = app.parse_args(tokens, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        raise SettingError(_explain(error).replace(STDIN, "-")) from error
    command(*bound.args, **bound.kwargs)


def _explain(error: CycloptsError) -> str:
    """One line that says what, what was given, and the nearest fix."""
    text = " ".join(str(error).split()).rstrip(".")
    verb = _VERBS.get(" ".join(error.command_chain or ()), _VERBS["generate"])
    match error:
        case UnknownOptionError():
            text = _unknown_option(error, verb)
        case CoercionError(token=token, argument=argument) if token and argument:
            text = _bad_value(argument.name, token.value, error.target_type) or text
        case MissingArgumentError(argument=argument) if argument:
            text = _missing(error, argument.name, verb)
        case UnusedCliTokensError(unused_tokens=[first, *_]):
            text = verb.one.format(first)
        case UnknownCommandError(unused_tokens=[first, *_]):
            verbs = [name for name in app if not name.startswith("-")]
            text = f"unknown verb {first!r}; {_nearest(first, [*verbs, '--help', '--version'])}"
        case RepeatArgumentError(token=token) if token:
            text = f"{token.keyword} is given twice; give it once"
    return text[:1].lower() + text[1:]


def _unknown_option(error: UnknownOptionError, verb: _Verb) -> str:
    given = error.token.keyword or error.token.value
    _, _, guess = str(error).partition("Did you mean ")
    near = f"did you mean {guess.rstrip('?')}?" if guess else f"{_help_of(error)} lists them"
    after_dashes = "" if given.startswith("--") else f" ({verb.dash})"
    return f"unknown option {given!r}; {near}{after_dashes}"


def _bad_value(name: str, given: str, wanted: object) -> str | None:
    if get_origin(wanted) is Literal:
        choices = get_args(wanted)
        return f"{name} is one of {', '.join(choices)}, got {given!r}; {_nearest(given, choices)}"
    for hint, kind in _WANTED.items():
        if hint in str(wanted):
            return f"{name} wants {kind}, got {given!r}"
    return None


def _nearest(given: str, choices: Iterable[str]) -> str:
    near = get_close_matches(given, list(choices), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"try {next(iter(choices))}"


def _missing(error: MissingArgumentError, name: str, verb: _Verb) -> str:
    if not name.startswith("-"):
        return verb.missing
    if name == "--prompt-at":
        return f'{name} wants a time from 0 on and a text, as {name} 20s "the sun sets"'
    if error.keyword:
        return f"{name} wants a value; write one that starts with - as {name}=VALUE"
    for given in error.unused_tokens or ():
        if given.startswith("--") and get_close_matches(given, [name]):
            return f"unknown option {given!r}; did you mean {name}?"
    return f"{name} is missing; {_help_of(error)} tells what it is"


def _help_of(error: CycloptsError) -> str:
    return " ".join(["longtake", *(error.command_chain or ()), "--help"])
