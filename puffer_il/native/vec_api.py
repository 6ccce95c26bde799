"""The structs of csrc/vec_api.h, and the compiled form of an environment."""

import contextlib
import ctypes
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from puffer_il.native.catalogue import env_folders
from puffer_il.native.envfile import EnvFile
from puffer_il.native.glue import compile_env, source_hash

ABI_VERSION = 4
BUFFERS = ("actions", "observations", "rewards", "terminals", "truncations", "masks", "final_observations")


class VecEnv(ctypes.Structure):
    """The struct of the same name in csrc/vec_api.h: addresses of a batch's memory."""

    _fields_ = [*((name, ctypes.c_void_p)
                  for name in ("envs", "clocks", "params", "data", "shared", *BUFFERS, "logs", "starts")),
                ("start_count", ctypes.c_int64), ("start_share", ctypes.c_double)]


def _function(*arguments: type, returns: type | None = None) -> Any:
    return ctypes.CFUNCTYPE(returns, ctypes.POINTER(VecEnv), *arguments)


class VecApi(ctypes.Structure):
    """The struct of the same name in csrc/vec_api.h: what a compiled environment exports. Calls release the GIL."""

    _fields_ = [("abi_version", ctypes.c_int32), ("agents", ctypes.c_int32),
                *((name, ctypes.c_int64) for name in ("env_bytes", "clock_bytes", "params_bytes", "data_bytes",
                                                       "obs_bytes", "action_bytes", "state_size", "log_size",
                                                       "render_width", "render_height")),
                ("source_hash", ctypes.c_char_p),
                ("seed", _function(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64, ctypes.c_int64)),
                ("reset", _function(ctypes.c_int64, ctypes.c_int64)),
                *((name, _function(ctypes.c_int64, ctypes.c_int64)) for name in ("step", "step_unclipped")),
                *((name, _function(ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64))
                  for name in ("expert", "get_state", "set_state")),
                ("render", _function(ctypes.c_int64, ctypes.c_void_p)),
                ("share", _function(returns=ctypes.c_char_p)),
                ("open", _function(ctypes.c_int64, ctypes.c_int64, returns=ctypes.c_char_p)),
                ("close", _function(ctypes.c_int64, ctypes.c_int64)),
                ("unshare", _function())]


def load_api(env: EnvFile) -> VecApi:
    """The compiled form of exactly these sources: of a shipped or installed environment the one beside them, or else
    compiled now and cached. To load a library is to run it, so that one of other sources is not, nor one that somebody
    has put into a folder of the user's."""
    wanted = source_hash(env)
    for path in (env.folder / f"_{env.name}{suffix}" for suffix in EXTENSION_SUFFIXES):
        if path.is_file() and wanted.encode() in path.read_bytes() and env.folder in env_folders().values():
            with contextlib.suppress(OSError, ValueError):  # built for another machine, or an older table
                api = _table(path)
                if api.abi_version == ABI_VERSION and api.source_hash.decode() == wanted:
                    return api
    return _table(compile_env(env))


def _table(path: Path) -> VecApi:
    library = ctypes.CDLL(str(path))
    api = VecApi.in_dll(library, "vec_api")
    api.mask = getattr(library, "vec_mask", None)  # csrc/vec_mask.h, where the environment has a c_mask
    if api.mask is not None:
        api.mask.argtypes, api.mask.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64], None
    return api
