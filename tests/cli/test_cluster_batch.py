"""Where a batch runs: what --on and --cores say, and what does not go with them."""

import pytest

from linfusion_cli.batch import ray_cluster
from linfusion_cli.cli.cluster_batch import OnCluster
from linfusion_cli.errors import UsageError


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "checked_address", lambda text: text.removeprefix("ray").removeprefix("://"))


def test_places() -> None:
    assert OnCluster.of(None, None, "cuda", None) is None
    assert OnCluster.of("ray", None, None, None) == OnCluster("", 0, "auto")
    assert OnCluster.of("ray://head:1", 8, "cpu", None) == OnCluster("head:1", 8, "cpu")


def test_cores_without_a_cluster_are_refused() -> None:
    with pytest.raises(UsageError, match="--cores 2 says how large a worker of a cluster is: give --on as well"):
        OnCluster.of(None, 2, None, "now.jpg")


def test_a_preview_of_many_images_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--preview now\.jpg: with --on many images are made at a time"):
        OnCluster.of("ray", None, None, "now.jpg")
