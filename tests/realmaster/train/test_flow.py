"""The flow-matching step: which noise levels are drawn, and a loss that is zero for the right velocity only."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from realmaster.train.flow import NoiseLevels, flow_loss, noised


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_more_tokens_lean_towards_noise_and_every_level_occurs() -> None:
    means = []
    for tokens in (256, 1024, 4096):
        levels = NoiseLevels().draw(20_000, tokens, generator=seeded())
        assert levels.min() < 0.02 and levels.max() > 0.99 and levels.max() <= 1
        means.append(levels.mean().item())
    assert means == sorted(means) and means[2] - means[0] > 0.1
    # Beyond 4096 tokens nothing changes: the levels would crowd at 1.
    assert torch.equal(levels, NoiseLevels().draw(20_000, 50_000, generator=seeded()))


def test_experts_share_one_distribution() -> None:
    """What one expert draws is what the whole draws in its span."""
    noise = NoiseLevels(uniform=0.0)
    whole = noise.draw(100_000, 4096, generator=seeded())
    for span in ((0.0, 0.8), (0.8, 1.0)):
        part = noise.draw(50_000, 4096, span, seeded(1))
        assert span[0] <= part.min() and part.max() <= span[1]
        inside = whole[(whole >= span[0]) & (whole <= span[1])]
        assert part.mean() == pytest.approx(inside.mean().item(), abs=0.01)
        assert part.std() == pytest.approx(inside.std().item(), abs=0.01)


def test_pure_noise_has_its_share_where_it_belongs() -> None:
    noise = NoiseLevels(pure=0.3)
    assert (noise.draw(10_000, 1024, generator=seeded()) == 1).float().mean() == pytest.approx(0.3, abs=0.02)
    assert noise.draw(10_000, 1024, (0.0, 0.5), seeded()).max() <= 0.5


@pytest.mark.parametrize("wrong", [{"deviation": 0.0}, {"uniform": 1.1}, {"shift": 3.0}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        NoiseLevels(**wrong)


def test_only_the_right_velocity_has_no_loss() -> None:
    target, noise = torch.randn(2, 2, 3, 4, 5, generator=seeded())
    levels = torch.tensor([0.2, 0.9])
    noisy = noised(target, noise, levels)
    # From noisy = (1 - s) x + s e and x: e - x = (noisy - x) / s.
    right = (noisy - target) / levels.view(2, 1, 1, 1)
    assert flow_loss(right, target, noise).max() < 1e-10
    assert flow_loss(-right, target, noise).min() > 1
    assert flow_loss(torch.zeros_like(right), target, noise) == pytest.approx((noise - target).pow(2).mean((1, 2, 3)))


def test_what_is_known_stays_clean_and_has_no_loss() -> None:
    target, noise = torch.randn(2, 2, 6, 4, generator=seeded())
    known = torch.zeros(2, 6, 1, dtype=torch.bool)
    known[0, :2] = True
    noisy = noised(target, noise, torch.tensor([0.5, 0.5]), known)
    assert torch.equal(noisy[0, :2], target[0, :2]) and not torch.isclose(noisy[0, 2:], target[0, 2:]).all()
    wrong_where_known = noise - target
    wrong_where_known[0, :2] += 100
    assert flow_loss(wrong_where_known, target, noise, known).max() == 0
    # A sample of which much is known weighs as much as any other.
    off = (noise - target) + 1
    assert flow_loss(off, target, noise, known) == pytest.approx(torch.ones(2))
