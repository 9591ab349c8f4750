"""Extra noise lies where edges are, in proportion, and nowhere else."""

import torch

from linfusion_cli.engine.sampling.edge_noise import edge_map, with_edge_noise


def test_edges_are_found_and_flat_parts_are_not() -> None:
    latents = torch.zeros(1, 4, 32, 32)
    latents[..., 16:] = 1.0
    edges = edge_map(latents)
    assert edges.shape == (1, 1, 32, 32)
    assert torch.equal(edges[0, 0, :, 15:17], torch.ones(32, 2))
    assert edges[0, 0, :, :15].abs().max() == 0


def test_the_map_is_between_zero_and_one_whatever_the_scale() -> None:
    latents = torch.randn(1, 4, 16, 24)
    assert 0 <= float(edge_map(latents).min()) <= float(edge_map(latents).max()) == 1
    assert torch.allclose(edge_map(latents), edge_map(100 * latents), atol=1e-5)
    assert torch.equal(edge_map(torch.ones(1, 4, 8, 8)), torch.zeros(1, 1, 8, 8))


def test_noise_is_added_in_proportion() -> None:
    latents, noise = torch.randn(2, 1, 4, 16, 24)
    assert torch.allclose(with_edge_noise(latents, noise, 0.7), latents + 0.7 * edge_map(latents) * noise)
    assert torch.equal(with_edge_noise(latents, noise, 0.0), latents)
