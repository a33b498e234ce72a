import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.text import TextEncoder, Tokenizer
from longtake.text.tokenizer import NULL, UNKNOWN

WORDS = ("a", "ball", "drives", "left", "red", "slides", "sphere", ",", "to")


def tokenizer(max_tokens=12):
    return Tokenizer(WORDS, max_tokens)


def test_case_and_punctuation_do_not_matter():
    assert tokenizer().read("A RED ball!").tokens == tokenizer().read("a red ball").tokens


def test_hyphens_separate_words():
    assert tokenizer().read("left-to-left").tokens == tokenizer().read("left to left").tokens


def test_an_unknown_word_is_kept_as_unknown_and_named_once():
    reading = tokenizer().read("a lawyer and a lawyer")
    assert reading.unknown == ("lawyer", "and")
    assert reading.tokens.count(UNKNOWN) == 3


def test_a_slip_or_another_form_is_read_as_the_known_word_and_reported():
    reading = tokenizer().read("a red spehre slide, driving")
    assert dict(reading.replaced) == {"spehre": "sphere", "slide": "slides", "driving": "drives"}
    assert reading.unknown == ()


def test_short_words_are_not_guessed():
    assert tokenizer().read("bed").unknown == ("bed",)


def test_a_prompt_without_words_is_the_null_prompt():
    assert tokenizer().read("!?").tokens == (NULL,)


def test_words_past_the_limit_are_counted():
    reading = tokenizer(max_tokens=3).read("a red ball to left")
    assert len(reading.tokens) == 3
    assert reading.cut == 2


@given(st.text(max_size=200))
def test_any_text_can_be_read(text):
    reading = tokenizer().read(text)
    assert 1 <= len(reading.tokens) <= 12
    assert all(0 <= token < tokenizer().size for token in reading.tokens)


def test_padding_does_not_change_the_embeddings_of_words(tiny):
    encoder = TextEncoder(tiny.text, 12)
    short, mask = encoder(torch.tensor([[3, 4, 5]]))
    long, long_mask = encoder(torch.tensor([[3, 4, 5, 0, 0]]))
    assert torch.allclose(short, long[:, :3], atol=1e-5)
    assert mask.all()
    assert long_mask.tolist() == [[True, True, True, False, False]]


def test_the_order_of_words_matters(tiny):
    encoder = TextEncoder(tiny.text, 12)
    a, b = encoder(torch.tensor([[3, 4]]))[0], encoder(torch.tensor([[4, 3]]))[0]
    assert not torch.allclose(a[0, 0], b[0, 1], atol=1e-3)
