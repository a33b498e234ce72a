"""The page of faults and the tests that prove what happens at each, made from the tests' names.

python tests/faults/rows.py > docs/reference/faults.md
"""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
FAULTS = {
    1: "The worker is killed amid a film",
    2: "A kill between a file's name and the store",
    3: "The server is killed amid requests",
    4: "A kill while the film is joined",
    5: "The server is told to stop",
    6: "A power cut: what was not synced is lost",
    7: "Two workers, or two servers, on one store",
    8: "A worker that is frozen and wakes up",
    9: "The clock jumps",
    10: "The disk is full while a film is made",
    11: "The disk is full when a job is stored",
    12: "The log cannot be written",
    13: "The folder cannot be written",
    14: "The disk fails",
    15: "No more files can be opened",
    16: "The memory is too small",
    17: "A film that takes down its workers",
    18: "A client leaves amid an upload",
    19: "Clients leave amid events and films",
    20: "Heads and bodies that do not come",
    21: "Listeners that do not read",
    22: "Listeners that come again",
    23: "Cancel, in every state",
    24: "Delete, while it is made or fetched",
    25: "The same request again",
    26: "Bodies that are too large or lie about it",
    27: "Forms of thousands of parts",
    28: "JSON that is none, or strange",
    29: "Numbers out of range",
    30: "Strings that steer terminals or pages",
    31: "Ids that are paths",
    32: "Links in the data folder",
    33: "Files that pretend to be others",
    34: "Scripts in prompts, on the page",
    35: "Prompts in the film's metadata",
    36: "Pictures made to do harm",
    37: "Films made to do harm",
    38: "Playlists that lead elsewhere",
    39: "A decoder that crashes or hangs",
    40: "Addresses in place of pictures",
    41: "Pages of other sites",
    42: "Another address without a token",
    43: "Tokens that are none",
    44: "Every route without a token",
    45: "Floods and full queues",
    46: "Secrets in logs",
    47: "Weights that are cut off",
    48: "Weights with a flipped bit",
    49: "Weights with wrong values, shapes or types",
    50: "Headers made to take memory",
    51: "Pickles and other code",
    52: "A LoRA of another model",
    53: "Quantised weights with bad scales",
    54: "States that are damaged or of another take",
    55: "A store of an earlier release",
    56: "A store of a later release",
    57: "Other threads, other load: the same bytes",
    58: "A longer film: the same memory",
    59: "Hundreds of films: the same worker",
    60: "Training is killed",
    61: "Broken training data",
    62: "A loss that is no number",
    63: "Strange ranges",
    64: "Broken HTTP",
    65: "Requests of every kind the API page allows",
    66: "The command line, badly used",
    67: "No network",
}
EXCEPTIONS = {
    55: "2026-11-27: no release came before this one, so there is nothing to bring up to date; "
    "a real store of this one is kept for the next.",
}
"""Rows, or parts of rows, without a test: since when, and why."""
_TRAINING = "faults/test_training_faults.py"
ALSO = {
    34: (
        (
            "studio/test_studio.py",
            "test_script_tags_are_text_and_four_megabytes_are_kept_and_refused_with_a_reason",
        ),
    ),
    35: (("test_media.py", "test_tags_lose_control_characters_and_excess"),),
    52: (
        (_TRAINING, "test_a_lora_of_another_model_is_refused_by_both_hashes"),
        (_TRAINING, "test_a_header_that_does_not_fit_is_refused"),
        (_TRAINING, "test_tensors_that_are_missing_added_misshapen_or_not_finite_are_refused"),
        (_TRAINING, "test_the_verbs_refuse_a_foreign_lora_in_one_line"),
    ),
    60: (
        ("test_train.py", "test_a_killed_run_resumes_to_the_same_bytes"),
        (_TRAINING, "test_a_killed_run_ends_with_the_bytes_of_one_that_was_not"),
    ),
    61: (
        (_TRAINING, "test_damaged_clips_and_vanished_shards_are_left_out_and_the_order_stays"),
        (_TRAINING, "test_more_damaged_clips_than_allowed_end_the_run_by_name"),
    ),
    62: (
        ("test_train.py", "test_a_loss_that_is_not_a_number_ends_the_run_and_keeps_the_checkpoint"),
        (_TRAINING, "test_a_loss_that_is_no_number_ends_the_run_and_the_good_state_stays"),
    ),
}
"""Tests of a row that have no number in their names."""
SOAKED = {
    1: "100 kills: `python benchmarks/faults_server.py --rounds 100`.",
    59: "500 films: `pytest -m soak tests/faults/test_server_same.py`.",
    64: "10,000 requests: `pytest -m soak tests/faults/test_server_faults.py`.",
}
"""Rows whose full count runs with `make soak` alone."""
_HEAD = (
    "What Longtake is tested against, by number, with the tests that have the number in their "
    "names. Made from the tests by `make docs`."
)
_TEST = re.compile(r"^def test_rows?_((?:\d+_(?:and_)?)+)(\w+)", re.MULTILINE)


def tests() -> dict[int, list[str]]:
    """Lines of the page for each row: what a test says, and where it stands."""
    found: dict[int, list[str]] = {number: [] for number in FAULTS}
    for number, others in ALSO.items():
        for name, test in others:
            assert f"def {test}(" in (TESTS / name).read_text("utf-8"), test
            found[number].append(f"{test.removeprefix('test_').replace('_', ' ')} (`tests/{name}`)")
    for path in sorted(TESTS.rglob("test_*.py")):
        for numbers, sentence in _TEST.findall(path.read_text("utf-8")):
            line = f"{sentence.replace('_', ' ')} (`{path.relative_to(TESTS.parent)}`)"
            for number in re.findall(r"\d+", numbers):
                found[int(number)].append(line)
    return found


def page() -> str:
    """The whole page."""
    lines = [
        "# Faults",
        "",
        _HEAD,
    ]
    for number, proofs in tests().items():
        lines += ["", f"**{number}. {FAULTS[number]}**", ""]
        lines += [f"- {proof}" for proof in proofs]
        lines += [f"- Full count: {SOAKED[number]}"] if number in SOAKED else []
        lines += [f"- Exception of {EXCEPTIONS[number]}"] if number in EXCEPTIONS else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201
