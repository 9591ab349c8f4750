"""The error tree: one exit code per family, as drawn."""

from linfusion_cli import errors


def test_each_family_has_its_own_exit_code() -> None:
    families = errors.LinfusionError.__subclasses__()
    codes = {family.__name__: family.exit_code for family in families}
    assert codes == {"UsageError": 2, "OutOfMemoryError": 4, "WeightsError": 66, "OutputError": 74, "BusyError": 75}
    assert len(set(codes.values())) == len(codes)


def test_the_drawing_shows_every_family() -> None:
    assert errors.__doc__
    for family in errors.LinfusionError.__subclasses__():
        line = next(line for line in errors.__doc__.splitlines() if family.__name__ in line)
        assert str(family.exit_code) in line.split()


def test_nearest_offers_the_closest_or_all() -> None:
    assert errors.nearest("sdxl-8kk", ["sdxl-8k", "sd15-4k"]) == 'Did you mean "sdxl-8k"?'
    assert errors.nearest("zzz", ["b", "a"]) == "Allowed: a, b"
