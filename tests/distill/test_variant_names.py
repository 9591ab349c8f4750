from linfusion_cli.distill.variant_names import VARIANT_NAMES
from linfusion_cli.distill.variants import VARIANTS


def test_every_name_has_its_attention() -> None:
    assert tuple(VARIANTS) == VARIANT_NAMES
    assert "ssd-bidirectional-normalised" in VARIANT_NAMES
