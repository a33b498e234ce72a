import torch

from longtake.guidance import classifier_free


def test_scale_one_is_the_conditional_velocity():
    conditional, unconditional = torch.randn(2, 1, 2, 3, 4, 5)
    assert torch.allclose(classifier_free(conditional, unconditional, 1.0), conditional, atol=1e-6)


def test_guidance_goes_on_along_the_difference():
    conditional, unconditional = torch.ones(1, 1, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1)
    assert classifier_free(conditional, unconditional, 4.0).item() == 4.0
