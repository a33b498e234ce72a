"""Timecode counts every frame of a day once, at every rate, and refuses what does not exist."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.errors import ShotListError
from longtake.shots.timecode import RATES, from_timecode, rate_of, to_timecode

DROP = rate_of("29.97")
RATE = st.sampled_from(RATES)


@given(RATE, st.integers(0, 10**9))
@settings(max_examples=2000, deadline=None)
def test_every_frame_of_a_day_has_a_timecode_that_leads_back_to_it(rate, frame):
    assert from_timecode(to_timecode(frame, rate), rate) == frame % rate.day


@given(RATE, st.integers(0, 10**7), st.integers(0, 10**5))
@settings(deadline=None)
def test_later_frames_have_later_timecodes(rate, frame, more):
    one, other = frame % rate.day, frame % rate.day + 1 + more
    if other < rate.day:
        assert to_timecode(one, rate) < to_timecode(other, rate)


def test_drop_frame_counts_every_number_but_two_a_minute_over_a_whole_hour():
    told = [to_timecode(frame, DROP) for frame in range(107_892)]
    wanted = [
        f"00:{minute:02}:{second:02};{frame:02}"
        for minute in range(60)
        for second in range(60)
        for frame in range(30)
        if minute % 10 == 0 or second or frame >= 2
    ]
    assert told == wanted
    assert to_timecode(107_892, DROP) == "01:00:00;00"


def test_drop_frame_stays_within_five_frames_of_the_clock_over_a_day():
    for frame in range(0, DROP.day, 997):
        hours, minutes, rest = to_timecode(frame, DROP).split(":")
        seconds, frames = rest.split(";")
        told = Fraction(
            ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 30 + int(frames), 30
        )
        assert abs(told - DROP.seconds(frame)) < Fraction(5, 30)


@pytest.mark.parametrize("minute", [m for m in range(60) if m % 10])
@pytest.mark.parametrize("frame", [0, 1])
def test_a_number_that_drop_frame_leaves_out_is_refused_with_the_nearest(minute, frame):
    with pytest.raises(ShotListError, match=f"the nearest is 00:{minute:02}:00;02"):
        from_timecode(f"00:{minute:02}:00;0{frame}", DROP)


@pytest.mark.parametrize(
    ("text", "rate", "told"),
    [
        ("01:00:00;00", "24", "write 01:00:00:00, or take rate 29.97"),
        ("00:00:00:24", "24", "frames to 23"),
        ("24:00:00:00", "25", "hours go to 23"),
        ("00:60:00:00", "25", "minutes and seconds to 59"),
        ("1 second", "25", "HH:MM:SS:FF"),
    ],
)
def test_what_is_no_timecode_is_refused_with_the_reason(text, rate, told):
    with pytest.raises(ShotListError, match=told):
        from_timecode(text, rate_of(rate))


@pytest.mark.parametrize("name", ["24.0", " 29.97DF ", "23.98", "25fps", "30000/1001"])
def test_rates_are_known_by_their_usual_spellings(name):
    assert rate_of(name) in RATES


def test_an_unknown_rate_is_refused_with_the_nearest():
    with pytest.raises(ShotListError, match=r"got '29\.9'; did you mean 29\.97"):
        rate_of("29.9")


@given(RATE, st.fractions(0, 3600, max_denominator=1000))
@settings(deadline=None)
def test_seconds_become_the_nearest_frame(rate, seconds):
    assert abs(rate.seconds(rate.frames(seconds)) - seconds) * 2 * rate.fps <= 1
