"""Arrays on their way to a GPU: from page-locked memory, so that nobody waits for the copy."""

import weakref
from contextlib import suppress

import torch
from torch import Tensor

from puffer_il.core.spec import Array


def page_locked(array: Array, device: torch.device) -> Tensor:
    """The array as a tensor on the CPU. If `device` is a GPU it is a copy in page-locked memory, which torch does not
    give to anybody else before what was begun with `non_blocking=True` has been read; otherwise the same memory."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def sent(array: Array, device: torch.device) -> Tensor:
    """The array on `device`, without waiting for it."""
    return page_locked(array, device).to(device, non_blocking=True)


def lock(array: Array, owner: object) -> bool:
    """Page-lock memory that somebody else has allocated, until `owner` is gone; False if that cannot be had."""
    runtime = torch.cuda.cudart()
    place = array.__array_interface__["data"][0]
    if int(runtime.cudaHostRegister(place, array.nbytes, 0)) != 0:
        with suppress(RuntimeError):  # the next kernel reports it, and forgets it
            torch.zeros(1, device="cuda")
        return False
    weakref.finalize(owner, runtime.cudaHostUnregister, place)
    return True
