"""Property batteries: what every transform, loss, objective must hold, as functions that a test calls.

Each raises an AssertionError that names what was broken. ``tests/test_helpers.py`` shows each one fail.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

Batch = Mapping[str, Mapping[str, Any]]


def same(left: Any, right: Any) -> bool:
    """Tell whether two structures of tensors, arrays and plain values are equal, type, bits and NaN included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(same(one, other) for one, other in zip(left, right, strict=True))
    if isinstance(left, Tensor):
        return (
            left.dtype == right.dtype
            and left.device == right.device
            and left.shape == right.shape
            and torch.allclose(left.detach().as_subclass(Tensor), right.detach().as_subclass(Tensor), 0, 0, True)
            and (not isinstance(left, MetaTensor) or same(dict(left.meta), dict(right.meta)))
        )
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind in "fc")
    return bool(left == right or (left != left and right != right))  # the second half: both are NaN


def seed(transform: Any, value: int = 0) -> Any:
    """Seed a random transform in place and return it."""
    return transform.set_random_state(seed=value)


# Transforms


def check_input_unchanged(transform: Callable[[Any], Any], data: Any, calls: int = 5) -> None:
    """The transform never writes into its input, tensors, metadata and the dictionary itself included."""
    before = copy.deepcopy(data)
    for call in range(calls):
        transform(data)
        assert same(data, before), f"call {call} changed its input"


def check_kept(transform: Callable[[Any], Any], data: Tensor, calls: int = 5) -> None:
    """Type, dtype, device, shape and the metadata's affine and own entries leave as they came in."""
    for call in range(calls):
        out = transform(data)
        assert type(out) is type(data), f"call {call}: type {type(data).__name__} became {type(out).__name__}"
        for name in ("dtype", "device", "shape"):
            was, now = getattr(data, name), getattr(out, name)
            assert now == was, f"call {call}: {name} {was} became {now}"
        if isinstance(data, MetaTensor):
            assert torch.equal(out.affine, data.affine), f"call {call}: the affine changed"
            lost = {key for key in data.meta if key not in out.meta or not same(data.meta[key], out.meta[key])}
            assert not lost, f"call {call}: metadata changed or lost: {sorted(map(str, lost))}"


def check_probability_zero_is_identity(make: Callable[..., Callable[[Any], Any]], data: Any, calls: int = 5) -> None:
    """``make(prob=0)`` gives back what came in, bit by bit."""
    transform = make(prob=0.0)
    for call in range(calls):
        assert same(transform(data), data), f"call {call} at prob 0 is not the identity"


def check_array_equals_dictionary(
    make_array: Callable[..., Any],
    make_dictionary: Callable[..., Any],
    image: Tensor,
    key: Hashable = "image",
    calls: int = 20,
    prob: float = 0.5,
) -> None:
    """Array and dictionary object, seeded alike, agree call by call; some calls act, some are skipped.

    ``make_dictionary`` is called as ``make_dictionary(keys=[key], prob=prob)``.
    """
    array, dictionary = seed(make_array(prob=prob)), seed(make_dictionary(keys=[key], prob=prob))
    acted = 0
    for call in range(calls):
        expected, got = array(image), dictionary({key: image})[key]
        assert same(expected, got), f"array and dictionary part at call {call}"
        acted += not torch.equal(torch.as_tensor(expected), torch.as_tensor(image))
    assert 0 < acted < calls, f"{acted} of {calls} calls at prob {prob} changed the image"


def check_one_draw_serves_all_keys(
    make_dictionary: Callable[..., Any], image: Tensor, keys: Sequence[Hashable] = ("image", "label"), calls: int = 5
) -> None:
    """Equal images under several keys stay equal."""
    transform = seed(make_dictionary(keys=list(keys), prob=1.0))
    for call in range(calls):
        out = transform({key: image.clone() for key in keys})
        for key in keys[1:]:
            assert same(out[key], out[keys[0]]), f"call {call}: {key!r} was drawn apart from {keys[0]!r}"


def check_transform(
    make_array: Callable[..., Any], make_dictionary: Callable[..., Any], image: Tensor, keeps: bool = True
) -> None:
    """Every battery above, for a transform that keeps its input's shape and takes all arguments but prob by default."""
    for data in (image.as_subclass(Tensor), MetaTensor(image, affine=torch.diag(torch.tensor([2.0, 1.0, 1.0, 1.0])))):
        check_input_unchanged(seed(make_array(prob=1.0)), data)
        check_input_unchanged(seed(make_dictionary(keys=["image"], prob=1.0)), {"image": data, "name": "case"})
        if keeps:
            check_kept(seed(make_array(prob=1.0)), data)
        check_probability_zero_is_identity(make_array, data)
        check_array_equals_dictionary(make_array, make_dictionary, data)
        check_one_draw_serves_all_keys(make_dictionary, data)


# Losses


def check_loss(
    function: Callable[..., Tensor], module: nn.Module, input: Tensor, target: Tensor, differs: Tensor | None = None
) -> None:
    """A loss is a finite float32 scalar, also under autocast; equals its function; reaches its input and no target.

    ``differs`` is an input of a wrong shape; the loss must refuse it with a ValueError.
    """
    input, target = input.detach().clone(), target.detach().clone()
    before = input.clone(), target.clone()
    input.requires_grad_(True)
    if target.is_floating_point():
        target.requires_grad_(True)
    loss = module(input, target)
    assert loss.shape == (), f"the reduced loss has shape {tuple(loss.shape)}"
    assert loss.dtype == torch.float32, f"the loss is {loss.dtype}"
    assert bool(torch.isfinite(loss)), f"the loss is {loss.item()}"
    assert same(input.detach(), before[0]), "the loss changed its input"
    assert same(target.detach(), before[1]), "the loss changed its target"
    assert torch.equal(loss, function(input, target)), "module and function differ"

    wanted = [input, target] if target.requires_grad else [input]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    assert gradients[0] is not None, "no gradient reaches the input"
    assert bool(torch.isfinite(gradients[0]).all()), "the input's gradient is not finite"
    assert bool(gradients[0].any()), "the input's gradient is zero"
    assert len(gradients) == 1 or gradients[1] is None or not gradients[1].any(), "a gradient reaches the target"

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(input, target).dtype == torch.float32, "the loss left float32 under autocast"
        low = module(input.detach().bfloat16(), target.detach())
    assert low.dtype == torch.float32, "a bfloat16 input makes a loss that is not float32"
    if differs is not None:
        try:
            module(differs, target)
        except ValueError:
            return
        raise AssertionError(f"an input of shape {tuple(differs.shape)} is not refused")


# Objectives


def frozen(objective: nn.Module) -> list[nn.Module]:
    """Return the outermost submodules all of whose parameters are frozen: an objective's teachers."""
    found: list[nn.Module] = []
    for module in objective.children():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            found.append(module)
        else:
            found += frozen(module)
    return found


def perturb(modules: Iterable[nn.Module], scale: float = 0.05) -> None:
    """Move every parameter a little: a teacher that equals its student gives a consistency term no gradient."""
    with torch.no_grad():
        for module in modules:
            for parameter in module.parameters():
                parameter.add_(scale * torch.randn_like(parameter))


def check_terms(objective: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Terms are finite float32 scalars; every weight names a term; the batch is left alone; ``deployed`` is a part."""
    before = copy.deepcopy(batch)
    terms = objective(batch)
    assert same(batch, before), "the objective changed its batch"
    assert terms, "the objective has no term"
    for name, term in terms.items():
        assert term.shape == (), f"term {name!r} has shape {tuple(term.shape)}"
        assert term.dtype == torch.float32, f"term {name!r} is {term.dtype}"
        assert bool(torch.isfinite(term)), f"term {name!r} is {term.item()}"
    idle = set(objective.weights) - set(terms)
    assert not idle, f"weights of terms that do not exist: {sorted(idle)}"
    assert any(objective.deployed is module for module in objective.modules()), "deployed is no part of the objective"
    return dict(terms)


def check_term_gradients(
    objective: nn.Module,
    batch: Batch,
    teachers: Sequence[nn.Module] | None = None,
    reaches: Mapping[str, str] | None = None,
) -> None:
    """Every term has a non-zero, finite gradient to what trains, and none to a teacher.

    The teachers (default: the frozen submodules) are moved away from their students first, and thawed for the time of
    the check: their targets must be cut off by the objective, and not only because they happen to be frozen.

    Args:
        objective: what is checked.
        batch: one batch.
        teachers: networks that may receive no gradient.
        reaches: name of the one submodule that a term may train, by term, for methods with several students.
    """
    teachers = frozen(objective) if teachers is None else list(teachers)
    taught = [parameter for teacher in teachers for parameter in teacher.parameters()]
    thawed = [parameter for parameter in taught if parameter.requires_grad]
    assert not thawed, f"{len(thawed)} of the teachers' parameters require a gradient"
    students = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    assert students, "nothing in the objective trains"
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    perturb(teachers)
    try:
        for parameter in taught:
            parameter.requires_grad_(True)
        for name, term in objective(batch).items():
            assert term.requires_grad, f"term {name!r} has no gradient at all"
            wanted = students + taught
            gradients = torch.autograd.grad(term, wanted, allow_unused=True, retain_graph=True)
            hit = {id(p): g for p, g in zip(wanted, gradients, strict=True) if g is not None and bool(g.any())}
            bad = [names.get(key, "?") for key, gradient in hit.items() if not torch.isfinite(gradient).all()]
            assert not bad, f"term {name!r} has a gradient that is not finite: {bad[:3]}"
            leaks = [names.get(id(parameter), "?") for parameter in taught if id(parameter) in hit]
            assert not leaks, f"term {name!r} sends a gradient to the teacher: {leaks[:3]}"
            assert any(id(parameter) in hit for parameter in students), f"term {name!r} has a zero gradient"
            if reaches and name in reaches:
                own = {id(parameter) for parameter in objective.get_submodule(reaches[name]).parameters()}
                assert own & set(hit), f"term {name!r} does not reach the network it trains"
                strays = [names.get(key, "?") for key in hit if key not in own]
                assert not strays, f"term {name!r} reaches another network: {strays[:3]}"
    finally:
        for parameter in taught:
            parameter.requires_grad_(False)


def storages(module: nn.Module) -> dict[int, str]:
    """Map the addresses of a module's parameters and buffers to their names."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {tensor.untyped_storage().data_ptr(): name for name, tensor in tensors if tensor.numel()}


def check_no_shared_storage(student: nn.Module, teacher: nn.Module) -> None:
    """No parameter or buffer of one lies in the other's memory. Call it after an update of the teacher, too."""
    left, right = storages(student), storages(teacher)
    shared = [f"{left[address]} and {right[address]}" for address in left.keys() & right.keys()]
    assert not shared, f"student and teacher share storage: {shared[:3]}"


def check_teacher_frozen(objective: nn.Module, batch: Batch, teachers: Sequence[nn.Module] | None = None) -> None:
    """Forward, backward and an optimiser step leave the teachers' parameters as they were."""
    teachers = frozen(objective) if teachers is None else list(teachers)
    before = copy.deepcopy([list(teacher.parameters()) for teacher in teachers])
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1)
    torch.stack(list(objective(batch).values())).sum().backward()
    optimizer.step()
    after = [list(teacher.parameters()) for teacher in teachers]
    assert same(before, after), "a training step changed the teacher"
    assert all(p.grad is None for part in after for p in part), "a backward pass left a gradient on the teacher"


def check_overfits(
    objective: nn.Module,
    batch: Batch,
    steps: int = 100,
    learning_rate: float = 1e-2,
    ratio: float = 0.5,
    measure: Callable[[nn.Module], float] | None = None,
) -> None:
    """Trained on one batch, the weighted sum of the terms falls below ``ratio`` of its first value.

    Args:
        objective: what is trained, in place.
        batch: one tiny batch.
        steps: optimiser steps (Adam).
        learning_rate: Adam's.
        ratio: what is left of the first value, at most.
        measure: what has to fall instead of the sum, as a function of the deployed network.
    """
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], lr=learning_rate)
    first = last = float("nan")
    for step in range(steps):
        total = objective.total(objective(batch))
        last = total.item() if measure is None else measure(objective.deployed)
        first = last if step == 0 else first
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        objective.update_teacher(step)
    assert last <= ratio * first, f"{steps} steps brought {first:.4g} to {last:.4g}, not below {ratio} of it"
    state = objective.deployed.state_dict()
    bad = [name for name, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    assert not bad, f"the deployed network is not finite: {bad[:3]}"


def check_objective(objective: nn.Module, batch: Batch, reaches: Mapping[str, str] | None = None) -> None:
    """Every battery for objectives but overfitting, on copies, before and after an update of the teacher."""
    check_terms(copy.deepcopy(objective), batch)
    check_teacher_frozen(copy.deepcopy(objective), batch)
    check_term_gradients(copy.deepcopy(objective), batch, reaches=reaches)
    objective = copy.deepcopy(objective)
    for step in range(2):
        objective.update_teacher(step)
        for teacher in frozen(objective):
            for module in objective.children():
                if module is not teacher:
                    check_no_shared_storage(module, teacher)
