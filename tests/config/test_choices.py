from linfusion_cli.config.choices import ATTENTIONS, DTYPES
from linfusion_cli.config.options import by_key


def test_options_offer_the_words_of_their_types() -> None:
    rows = by_key()
    assert rows["attention"].choices == rows["base_attention"].choices == ATTENTIONS
    assert rows["dtype"].choices == ("auto", *DTYPES)
