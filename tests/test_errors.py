"""The error tree: one exit code per family, as drawn."""

import copy
import json
import pickle
from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli import errors
from linfusion_cli.cli.spelling import flag, told
from linfusion_cli.errors import (
    MOST_LISTED,
    LinfusionError,
    Message,
    Option,
    UsageError,
    WeightsError,
    first_of,
    option,
)
from linfusion_cli.events import Note


def test_each_family_has_its_own_exit_code() -> None:
    families = errors.LinfusionError.__subclasses__()
    codes = {family.__name__: family.exit_code for family in families}
    assert codes == {
        "UsageError": 2,
        "OutOfMemoryError": 4,
        "WeightsError": 66,
        "RanksError": 69,
        "OutputError": 74,
        "BusyError": 75,
        "StandardOutputError": 141,
    }
    assert len(set(codes.values())) == len(codes)


def test_the_drawing_shows_every_family() -> None:
    assert errors.__doc__
    for family in errors.LinfusionError.__subclasses__():
        line = next(line for line in errors.__doc__.splitlines() if family.__name__ in line)
        assert str(family.exit_code) in line.split()


def test_nearest_offers_the_closest_or_all() -> None:
    assert errors.nearest("sdxl-8kk", ["sdxl-8k", "sd15-4k"]) == 'Did you mean "sdxl-8k"?'
    assert errors.nearest_name("n_iter", ["ip_adapter", "seed"]) == ""
    assert errors.nearest_name("cfg", ["cfg_scale", "config"]) == "cfg_scale"
    assert errors.nearest("zzz", ["b", "a"]) == "Allowed: a, b"


def test_an_error_about_an_option_names_it_in_the_words_of_its_reader() -> None:
    error = WeightsError("/x/y.safetensors: holds no layer", parameter="lora")
    assert str(error) == "lora /x/y.safetensors: holds no layer"
    assert told(error) == "--lora /x/y.safetensors: holds no layer"


def test_advice_is_written_in_the_words_of_its_reader() -> None:
    error = UsageError("try ", option("dtype", "bfloat16"), " or ", option("steps", 20), " and ", option("overwrite"))
    assert str(error) == 'try dtype="bfloat16" or steps=20 and overwrite'
    assert told(error) == "try --dtype bfloat16 or --steps 20 and --overwrite"
    assert told(Message(option("prompt_weights", False))) == "--no-prompt-weights"
    assert told(Message(option("stages_folder", "my images"))) == "--stages 'my images'"


def test_an_error_inside_a_message_keeps_its_options() -> None:
    inner = UsageError("7: too many", parameter="clip_skip")
    assert told(Message("a.txt:3: ", inner)) == "a.txt:3: --clip-skip 7: too many"
    assert told(UsageError(inner, "!")) == "--clip-skip 7: too many!"


@given(st.text(max_size=100))
def test_text_of_users_is_never_taken_for_an_option(text: str) -> None:
    shown = told(Message(text, option("size")))
    assert shown == text + "--size"
    assert Message.from_json(json.loads(json.dumps(Message(text, option("size")).as_json()))).spelled(flag) == shown


def test_messages_survive_copies_pickles_and_json() -> None:
    message = Message("give ", option("size", "8k"))
    for same in (
        asdict(Note(text=message))["text"],
        copy.deepcopy(message),
        pickle.loads(pickle.dumps(message)),
        Message.from_json(json.loads(json.dumps(message.as_json()))),
        pickle.loads(pickle.dumps(LinfusionError(message))).message,
    ):
        assert same.parts == ("give ", Option("size", "8k"))
    assert Message.from_json("plain") == "plain"


def test_long_lines_lose_their_middle() -> None:
    error = UsageError("a" * 5000 + " give ", option("size"), "\nsecond")
    first, second = told(error).split("\n")
    assert len(first) <= errors.MOST_CHARACTERS
    assert (first[:2], first[-11:], second) == ("aa", "give --size", "second")


def test_a_long_list_is_cut_and_the_rest_counted() -> None:
    texts = [f"text {number}" for number in range(MOST_LISTED + 3)]
    assert first_of(texts[:MOST_LISTED], "text") == texts[:MOST_LISTED]
    assert first_of(texts, "text") == [*texts[:MOST_LISTED], "and 3 other texts"]
    assert first_of(texts, "text", keep_last=True) == [*texts[:MOST_LISTED], "and 2 other texts", texts[-1]]
    assert first_of([], "text", keep_last=True) == []
