import torch
from torch import nn
from virtual_adversarial import VirtualAdversarial, scaled


def test_the_change_is_more_harmful_than_a_random_one_of_its_size():
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv3d(4, 2, 1))
    objective = VirtualAdversarial(network, nn.CrossEntropyLoss(), radius=0.3)
    images = torch.randn(2, 1, 8, 8, 8)
    target = torch.log_softmax(network(images), dim=1).detach()
    random = [objective._divergence(target, images + scaled(torch.randn_like(images), 0.3)) for _ in range(10)]
    virtual = objective._virtual(images)
    assert virtual > 2 * max(random)
    assert torch.autograd.grad(virtual, network[0].weight)[0].abs().sum() > 0


def test_no_change_costs_nothing():
    assert VirtualAdversarial(nn.Conv3d(1, 2, 3), nn.L1Loss(), radius=0)._virtual(torch.randn(2, 1, 8, 8, 8)) == 0
