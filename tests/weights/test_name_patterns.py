"""A name is found by a pattern that fits it from end to end."""

from linfusion_cli.weights.name_patterns import first_named

TABLE = {r"(.*\.)?scaled_fp8": "fp8", r"edm_(mean|std)": "EDM"}


def test_the_first_name_that_a_pattern_fits() -> None:
    assert first_named(["a", "x.scaled_fp8", "edm_mean"], TABLE) == ("x.scaled_fp8", "fp8")
    assert first_named(["edm_std", "scaled_fp8"], TABLE) == ("edm_std", "EDM")
    assert first_named(["scaled_fp8.x", "edm_mean_", "my_edm_mean"], TABLE) is None
    assert first_named([], TABLE) is None
