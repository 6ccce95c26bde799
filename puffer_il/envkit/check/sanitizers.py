"""AddressSanitizer's and UBSan's reports, each condensed to one finding that names the author's line."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from puffer_il.envkit.check.program import ProgramRun
from puffer_il.envkit.check.results import Checks, at_step
from puffer_il.native.envfile import EnvFile
from puffer_il.native.glue import CSRC, OURS

FRAME = re.compile(r"^\s*#\d+ 0x[0-9a-f]+ in (\w+)[^\n]*? (/[^\n]+?):(\d+)(?::\d+)?$", re.MULTILINE)
UNDEFINED = re.compile(r"^(/?[^\n:]+):(\d+):\d+: runtime error: ([^\n]+)((?:\n\s+#[^\n]*)*)", re.MULTILINE)
STACK = re.compile(r"'(\w+)' \(line \d+\) <== Memory access at offset (-?\d+) (\w+)")
CRASHES = {"SEGV": "a wild or null pointer", "FPE": "an integer division by zero", "ILL": "an illegal instruction",
           "BUS": "a misaligned or wild pointer", "ABRT": "abort() or a failed assertion",
           "stack-overflow": "the stack is full: endless recursion, or a very large local array"}
CRASH_REMEDY = "look at the pointers, indices and divisors of that line; Env starts as zeros and c_reset must set it"
OWN_MEMORY = "put an array into Env; only c_open and c_close may ask for memory and give it back (see csrc/env.h)"
STACK_REMEDY = "large arrays belong in Env, or as static const beside it; bound how deep functions call themselves"
WHOSE = {  # block → what it holds, for the remedy
    "observations": "io.observations holds ENV_AGENTS × ENV_OBS_SIZE elements ({agents} × {obs} {dtype})",
    "final_observations": "io.final_observations is as large as io.observations ({agents} × {obs} {dtype})",
    "actions": "actions are ENV_AGENTS × ENV_ACTION_SIZE elements ({agents} × {action})",
    "rewards": "io.rewards holds one element for each agent ({agents})",
    "terminations": "io.terminations holds one element for each agent ({agents})",
    "truncations": "io.truncations holds one element for each agent ({agents})",
    "params": "io.params is one struct Params",
    "data": "io.data->x holds io.data->x_size elements",
    "state": "state holds the `state = {state}` numbers of env.toml",
    "the picture": "canvas->pixels holds 3 × width × height bytes; canvas_…() functions clip by themselves",
    "Env": "the memory of an environment is one struct Env",
}


@dataclass(frozen=True)
class Place:
    function: str
    at: str  # my_env.h:31


def author(env: EnvFile, trace: str) -> Place | None:
    """The innermost call in the environment's own headers."""
    frames = [(function, Path(file), line) for function, file, line in FRAME.findall(trace)]
    own = [frame for frame in frames if frame[1].parent.resolve() == env.folder] or [
        frame for frame in frames if frame[1].suffix == ".h" and frame[1].parent != CSRC / "check"
        and not (frame[1].parent == CSRC and frame[1].name in OURS)]
    return Place(own[0][0], f"{own[0][1].name}:{own[0][2]}") if own else None


def remedy(env: EnvFile, block: str) -> str:
    """What to look at where a block of memory was left."""
    holds = WHOSE.get(block, "check the index").format(agents=env.agents, obs=env.observation.size, state=env.state,
                                                       action=env.action.size, dtype=env.observation.dtype)
    return holds if holds == "check the index" else f"{holds}: check the index, or the sizes in env.toml"


def check_sanitizers(env: EnvFile, run: ProgramRun, checks: Checks) -> None:
    """Findings of the sanitized build: crashes and endless loops to `runs`, the others to `memory` and `types`."""
    died = next(iter(run.all("died")), None)
    crash = re.search(r"AddressSanitizer:? (?:failed to |)([\w-]+)(.*)", run.log, re.DOTALL)
    place = author(env, run.log[crash.start():] if crash else run.log if died and died[0] == "endless" else "")
    if died and died[0] == "endless":
        tell_endless(died, place, checks)
    if crash and died:
        _address(env, crash[1], crash[2], place, died, run, checks)
    for file, line, text, trace in UNDEFINED.findall(run.log):
        where = author(env, trace) or Place("", f"{Path(file).name}:{line}")
        if place and place.at == where.at and checks.failed("runs"):
            continue  # what it crashed by is told already
        at = f"{where.at} in {where.function}" if where.function else where.at
        checks["memory"].add(f"undefined behaviour: {at}: {text}", _undefined_remedy(text))


def tell_endless(died: tuple[str, ...], place: Place | None, checks: Checks) -> None:
    at = f", near {place.at}" if place else ""
    checks["runs"].add(f"infinite loop: {died[2]} does not return, {at_step(died[3])}{at}",
                       "bound the loop by a count; `while` over floats may never meet its condition")


def _address(env: EnvFile, kind: str, text: str, place: Place | None, died: tuple[str, ...], run: ProgramRun,
             checks: Checks) -> None:
    """One report of AddressSanitizer."""
    function, where = (place.function, place.at) if place else (died[2], f"{env.name}.h")
    if kind in CRASHES:
        why = CRASHES[kind]
        address = re.search(r"unknown address (0x[0-9a-f]+)", text)
        if kind == "SEGV" and ("zero page" in text or (address and int(address[1], 16) < 4096)):
            why = "a null pointer"
        name, cure = (f" (SIG{kind})", CRASH_REMEDY) if kind != "stack-overflow" else ("", STACK_REMEDY)
        checks["runs"].add(f"crash: {where} in {function}, {at_step(died[3])}: {why}{name}", cure)
        return
    access = re.search(r"(READ|WRITE) of size (\d+)", text)
    region, local = next(iter(run.all("region")), None), STACK.search(text)
    out = "overflow" in kind or "underflow" in kind
    does = f"{'reads' if access[1] == 'READ' else 'writes'} {access[2]} bytes" if access else kind.replace("-", " ")
    block, beside = "memory", "of memory that is not its own" if out else "of memory that it has given back"
    if local:
        block, beside = local[1], f"{'past the end of' if local[3].startswith('over') else 'before'} {local[1]}"
    elif region and out:
        block, beside = region[0], beside_block(region[0], int(region[1]), int(region[2]))
    what = "out of bounds" if out else kind.replace("-", " ")
    checks["memory"].add(f"{what}: {where} in {function} {does} {beside}, {at_step(died[3])}",
                         remedy(env, block) if out else OWN_MEMORY)
    element = np.dtype(env.observation.dtype).itemsize
    if out and access and "observations" in block and int(access[2]) > element and int(access[2]) in (2, 4, 8):
        checks["types"].add(f"wrong dtype: {where} {does} at a time into {block}, whose elements are "
                            f"{env.observation.dtype} ({element} byte{'s' * (element > 1)})",
                            "write Obs elements, io.observations[k] = …, or change dtype in [observation] of env.toml")


def beside_block(block: str, offset: int, size: int) -> str:
    """Where an offset lies as seen from a block of memory."""
    if offset < 0:
        return f"{-offset} bytes before {block}"
    if offset < size:
        return f"over the end of {block} (only {size - offset} bytes are left)"
    return f"{f'{offset - size} bytes ' if offset > size else ''}past the end of {block}"


def _undefined_remedy(text: str) -> str:
    if "out of bounds" in text:
        return "check the index against the array's length"
    if "not a valid value for type" in text:
        return "a bool was never written, or holds something else than 0 and 1"
    if "outside the range" in text:
        return "clip the number before it becomes an integer; the result differs between processors"
    if "null pointer" in text:
        return "only with c_open or c_share may there be pointers; look at where it should have been set"
    if "overflow" in text or "shift" in text:
        return "use a wider or an unsigned type"
    return "compilers may make anything of it; rewrite that line"
