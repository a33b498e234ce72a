"""Shot lists are read from what people have, and refused by row and column before anything else."""

import json
from pathlib import Path

import pytest

from longtake.errors import ShotListError
from longtake.shots.read import read_shots
from longtake.shots.shot import order_of

HEAD = "scene,name,duration,prompt"
TWO = f"{HEAD}\nSC010,SH0010,2s,a red ball bounces on grass\nSC010,SH0020,36f,a blue cube\n"


def listed(folder: Path, text: str | bytes, name: str = "scene.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def complaint(path: Path, **options: str) -> str:
    with pytest.raises(ShotListError) as caught:
        read_shots(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_list_gives_its_shots_in_order(tmp_path):
    scene = read_shots(listed(tmp_path, TWO))
    assert [(s.code, s.frames) for s in scene.shots] == [("SC010_SH0010", 48), ("SC010_SH0020", 36)]
    assert scene.frames == 84
    assert scene.starts() == (0, 48)
    assert scene.title == "scene"


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace(",", ";").encode(),
        lambda text: text.replace(",", "\t").encode("utf-16"),
        lambda text: text.replace(",", "\t").encode("utf-16-le"),
        lambda text: text.replace(",", "\t").encode("utf-16-be"),
        lambda text: b"sep=;\r\n" + text.replace(",", ";").replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\n,,,\n").encode(),
    ],
    ids=["bom", "semicolons", "excel", "utf-16-le", "utf-16-be", "sep", "crlf", "blank rows"],
)
def test_every_form_that_spreadsheets_write_gives_the_same_list(tmp_path, encode):
    plain = read_shots(listed(tmp_path, TWO, "plain.csv"))
    assert read_shots(listed(tmp_path, encode(TWO))).shots == plain.shots


def test_a_quoted_newline_is_a_space_and_does_not_count_as_a_row(tmp_path):
    text = f'{HEAD}\nSC010,SH0010,2s,"a red ball\nbounces"\nSC010,SH0020,0s,a cube\n'
    assert complaint(listed(tmp_path, text)).startswith("scene.csv, row 3, column duration: got")
    good = read_shots(listed(tmp_path, text.replace("0s", "1s")))
    assert good.shots[0].prompt == "a red ball bounces"


@pytest.mark.parametrize(
    ("duration", "told"),
    [
        ("0", "0 of what? write 0f for frames or 0s for seconds"),
        ("0f", "0 frames at 24; a shot has 1 frame or more"),
        ("-5s", "-120 frames at 24"),
        ("1000000f", "lasts at most 3,600 s"),
        ("9" * 500 + "s", "lasts at most 3,600 s"),
        ("soon", "got 'soon'; write 72f, 3s or 00:00:03:00"),
        ("1e3s", "got '1e3s'"),
        ("", "it is empty; say how long"),
        ("00:00:01:24", "no timecode at 24"),
        ("00:01:00;00", "counts drop-frame, and 24 does not"),
    ],
)
def test_a_bad_duration_is_refused_by_row_and_column(tmp_path, duration, told):
    path = listed(tmp_path, TWO.replace("36f", duration))
    assert complaint(path).startswith("scene.csv, row 3, column duration: ")
    assert told in complaint(path)


def test_a_drop_frame_number_that_does_not_exist_is_refused(tmp_path):
    path = listed(tmp_path, TWO.replace("36f", "00:01:00;00"))
    told = complaint(path, rate="29.97")
    assert told.startswith("scene.csv, row 3, column duration: 00:01:00;00 does not exist")
    assert "00:01:00;02" in told


@pytest.mark.parametrize(
    ("rate", "text", "frames"),
    [
        ("24", "2s", 48), ("23.976", "2s", 48), ("29.97", "60s", 1798), ("25", "0.5s", 13),
        ("29.97", "00:01:00;02", 1800), ("16", "00:00:02:08", 40), ("30", "12 frames", 12),
    ],
)  # fmt: skip
def test_durations_are_frames_seconds_or_timecode(tmp_path, rate, text, frames):
    assert read_shots(listed(tmp_path, TWO.replace("36f", text)), rate).shots[1].frames == frames


def test_seconds_that_are_no_whole_frames_are_told(tmp_path):
    scene = read_shots(listed(tmp_path, TWO.replace("36f", "0.51s")))
    assert scene.notes == ("scene.csv, row 3: 0.51s became 12 frames, the nearest at 24",)


@pytest.mark.parametrize(
    ("column", "cell", "told"),
    [
        ("camera", "pan lefft", "no camera move 'pan lefft'; did you mean 'pan left'?"),
        ("seed", "-1", "a seed is a whole number"),
        ("seed", "1.5", "a seed is a whole number"),
        ("transition", "dissolv", "did you mean dissolve?"),
        ("transition", "wipe", "one of cut, continue, dissolve"),
        ("first_frame", "gone.png", "there is no picture"),
        ("first_frame", "last:SH0011", "there is no shot 'SH0011'; did you mean SH0010?"),
        ("first_frame", "last:SH0020", "a circle"),
        ("last_frame", "end.png", "no model was trained to move towards an end frame"),
        ("lock", "perhaps", "write yes, or nothing"),
        ("dissolve", "12", "the transition is a cut; make it a dissolve"),
        ("seconds", "2", "column duration tells the duration already"),
    ],
)
def test_a_bad_cell_is_refused_by_row_and_column(tmp_path, column, cell, told):
    first, one, two, *_ = TWO.splitlines()
    path = listed(tmp_path, f"{first},{column}\n{one},\n{two},{cell}\n")
    assert complaint(path).startswith(f"scene.csv, row 3, column {column}: ")
    assert told in complaint(path)


def test_a_dissolve_longer_than_its_shot_is_refused(tmp_path):
    first, one, two, *_ = TWO.splitlines()
    path = listed(tmp_path, f"{first},transition,dissolve\n{one},,\n{two},dissolve,37f\n")
    assert "the most is 36" in complaint(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("SH0020", "SH0010"), "row 3, column name: SC010_SH0010 is the name of scene.csv, row 2"),
        (("SH0020", "sh0010"), "differ in more than case"),
        (("SH0020", ""), "row 3, column name: it is empty"),
        (("SH0020", "../SH"), "row 3, column name: got '../SH'"),
        (("a blue cube", ""), "row 3, column prompt: it is empty"),
        (("a blue cube", "a cube, blue"), "row 3, column 5: ' blue' is beyond the last header"),
        (("a blue cube", '"a cube'), "row 3: unexpected end of data"),
        (("duration", "durattion"), "row 1: unknown column 'durattion'; did you mean 'duration'?"),
        (("prompt", "words"), "row 1: there is no column prompt"),
        (("scene,", "name,"), "row 1: column name is there twice"),
        (("a blue cube", "a\0cube"), "line 3: it holds a zero byte"),
    ],
)
def test_a_bad_list_is_refused_in_one_line(tmp_path, change, told):
    assert told in complaint(listed(tmp_path, TWO.replace(*change)))


def test_other_bad_files_are_refused_in_one_line(tmp_path):
    assert "has no shots" in complaint(listed(tmp_path, HEAD))
    assert "no column name" in complaint(listed(tmp_path, ""))
    assert "line 2" in complaint(listed(tmp_path, TWO.encode().replace(b"red", b"r\xe9d")))
    assert "cannot read the shot list" in complaint(tmp_path / "gone.csv")
    assert "ends in .csv" in complaint(listed(tmp_path, TWO, "scene.xlsx"))
    assert "more than" in complaint(listed(tmp_path, TWO + " " * 5_000_000))
    many = "".join(f"S,N{n},1s,a ball\n" for n in range(1000))
    assert "1 to 999 shots, got 1000" in complaint(listed(tmp_path, f"{HEAD}\n{many}"))


def test_a_continued_shot_cannot_be_the_first_nor_begin_with_a_picture(tmp_path):
    first, one, two, *_ = TWO.splitlines()
    path = listed(tmp_path, f"{first},transition\n{one},continue\n{two},\n")
    assert "row 2, column transition: continue needs a shot before it" in complaint(path)
    head = f"{first},transition,first_frame\n"
    path = listed(tmp_path, f"{head}{one},,\n{two},continue,last:SH0010\n")
    assert "row 3, column first_frame: a shot that begins by continue" in complaint(path)


def test_shots_that_start_from_each_other_in_a_circle_are_refused(tmp_path):
    head = f"{HEAD},first_frame\n"
    rows = [f"S,N{n},1s,a ball,last:N{(n + 1) % 3}\n" for n in range(3)]
    told = complaint(listed(tmp_path, head + "".join(rows)))
    assert "row 2, column first_frame: S_N0 starts from S_N1 starts from S_N2" in told


def test_a_shot_is_made_after_the_one_it_starts_from(tmp_path):
    head = f"{HEAD},first_frame\n"
    rows = "S,A,1s,a ball,last:C\nS,B,1s,a cube,\nS,C,1s,a cone,last:B\n"
    scene = read_shots(listed(tmp_path, head + rows))
    assert [shot.code for shot in order_of(scene.shots)] == ["S_B", "S_C", "S_A"]


def test_camera_moves_are_said_in_the_words_of_the_captions(tmp_path):
    first, one, two, *_ = TWO.splitlines()
    path = listed(tmp_path, f"{first},camera\n{one},Track Left\n{two},PUSH IN\n")
    one, two = read_shots(path).shots
    assert one.prompt == "a red ball bounces on grass, the camera trucks left"
    assert two.prompt == "a blue cube, the camera dollies in"


def test_a_name_of_the_cast_stands_for_its_description(tmp_path):
    path = listed(tmp_path, TWO.replace("a red ball", "HERO"))
    shot = read_shots(path, cast={"HERO": r"a small \1 red ball"}).shots[0]
    assert shot.prompt == r"a small \1 red ball bounces on grass"


def test_a_seed_comes_from_the_name_so_that_rows_can_move(tmp_path):
    first, one, two, *_ = TWO.splitlines()
    moved = read_shots(listed(tmp_path, f"{first}\n{two}\n{one}\n")).shots
    assert moved[::-1] == read_shots(listed(tmp_path, TWO)).shots
    assert moved[0].seed != moved[1].seed


def test_columns_that_are_not_ours_are_told_and_left(tmp_path):
    first, one, two, *_ = TWO.splitlines()
    scene = read_shots(listed(tmp_path, f"{first},lens\n{one},35\n{two},50\n"))
    assert scene.notes == ("scene.csv: not read: lens",)


def test_json_gives_the_same_list(tmp_path):
    keys = HEAD.split(",")
    shots = [dict(zip(keys, line.split(","), strict=True)) for line in TWO.splitlines()[1:]]
    whole = {"title": "Scene", "rate": 24, "shots": shots, "cast": {"HERO": "a ball"}}
    scene = read_shots(listed(tmp_path, json.dumps(whole), "scene.json"))
    assert scene.title == "Scene"
    assert scene.shots == read_shots(listed(tmp_path, TWO)).shots
    bare = read_shots(listed(tmp_path, json.dumps(shots), "scene.json"))
    assert bare.shots == scene.shots


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ('{"shots": [', "is not JSON"),
        ("3", 'must hold {"shots": [...]}'),
        ('{"shots": [3]}', "shot 1: a shot is an object"),
        ('{"shots": [{"name": ["a"]}]}', "shot 1, column name: it wants text or a number"),
        ('{"shots": [{"nme": "a"}]}', "shot 1: unknown column 'nme'; did you mean 'name'"),
        ('{"shots": [{"lens": "a"}]}', "shot 1: unknown key 'lens'"),
        ('{"shots": [], "fps": 3}', "unknown key 'fps'"),
        ('{"shots": [{"name": "A", "duration": 3, "prompt": "a ball"}]}', "3 of what?"),
        ('{"rate": 26, "shots": []}', "rate must be one of"),
        ('{"cast": 3, "shots": []}', "cast must be names"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_bad_json_list_is_refused_in_one_line(tmp_path, data, told):
    assert told in complaint(listed(tmp_path, data, "scene.json"))


SCRIPT = """Title: The Ball
Author: nobody

/* a boneyard

INT. CELLAR - DAY
*/

EXT. GRASS FIELD - DAY

A *red* ball bounces. [[3s, camera: pan left]]

A blue cube stands still. [[00:00:02:12]] [[a thought: nothing more]]

HERO
(loud)
Stop!

DISSOLVE TO:

.DESERT - SUNSET #12A#

A green cone spins. [[seed: 7, transition: cut]]

CUT TO:

A car drives left to right.
"""


def test_a_fountain_script_gives_a_shot_for_each_paragraph_of_action(tmp_path):
    scene = read_shots(listed(tmp_path, SCRIPT, "ball.fountain"))
    assert scene.title == "The Ball"
    assert [(s.code, s.frames, s.transition) for s in scene.shots] == [
        ("SC010_SH0010", 72, "cut"), ("SC010_SH0020", 60, "cut"),
        ("SC12A_SH0010", 96, "cut"), ("SC12A_SH0020", 96, "cut"),
    ]  # fmt: skip
    assert scene.shots[0].prompt == "A red ball bounces, grass field, day, the camera pans left"
    assert scene.shots[2].seed == 7
    assert scene.notes == ("ball.fountain: 1 speeches are not filmed",)


def test_a_transition_of_a_script_belongs_to_the_shot_after_it(tmp_path):
    text = "INT. ROOM - DAY\n\nA ball.\n\nDISSOLVE TO:\n\nA cube.\n"
    scene = read_shots(listed(tmp_path, text, "ball.fountain"))
    assert [(s.transition, s.dissolve) for s in scene.shots] == [("cut", 0), ("dissolve", 12)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A ball bounces.\n", "has no scenes: a scene begins with a line as INT. ROOM - DAY"),
        ("INT. ROOM - DAY\n\nHERO\nNo.\n", "has no action"),
        ("INT. ROOM - DAY\n\nA ball. [[0s]]\n", "line 3, column duration: got '0s'"),
        ("INT. ROOM - DAY\n\n[[2s]]\n", "line 3, column prompt: it is empty"),
    ],
)
def test_a_bad_script_is_refused_by_its_line(tmp_path, text, told):
    assert told in complaint(listed(tmp_path, text, "ball.fountain"))
