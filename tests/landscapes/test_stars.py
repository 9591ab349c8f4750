"""Stars: a closer view of the sky shows fainter ones."""

from landscape_scenes import detail, scenes


def test_a_close_view_of_the_sky_shows_fainter_stars() -> None:
    scene = next(scene for scene in scenes(200) if scene.stars and scene.body == "none")
    near, enlarged = detail(scene, 0.05)
    assert near > 2 * enlarged
