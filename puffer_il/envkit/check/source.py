"""What the sources of a C environment tell: the program that checks it, its compiler's warnings, and what it calls."""

import re
import shutil
import subprocess
from pathlib import Path

from puffer_il.envkit.check.results import Checks
from puffer_il.native.envfile import EnvFile
from puffer_il.native.glue import C_TYPES, CSRC, OURS, c_source, headers

CAST = re.compile(r"\(\s*(?:const\s+)?(float|double|u?int\d+_t|unsigned char|signed char|char|unsigned|int|bool)\s*"
                  r"(?:const\s*)?\*\s*(?:const\s*)?\)\s*\(?\s*io\s*\.\s*(observations|final_observations|actions)\b")
SAME_TYPE = {"unsigned char": "uint8_t", "signed char": "int8_t", "char": "int8_t", "int": "int32_t"}
DIAGNOSTIC = re.compile(r"^(.+?):(\d+):\d+: (warning|error|fatal error): (.+?)(?: \[(-W[\w=+-]+)\])?$", re.MULTILINE)
CALLS = {  # what no environment may call → the check that it belongs to, what it finds, what to do, fatal
    ("rand", "srand", "rand_r", "random", "srandom", "drand48", "lrand48", "mrand48", "srand48", "arc4random",
     "arc4random_uniform", "getrandom", "getentropy"):
        ("determinism", "not deterministic: {where} calls {name}(), whose numbers do not come from the seed",
         "take them from io.rng: rng_double, rng_uniform, rng_below", True),
    ("time", "clock", "clock_gettime", "gettimeofday", "timespec_get"):
        ("determinism", "not deterministic: {where} calls {name}(), which differs from run to run",
         "count steps in Env instead; random numbers come from io.rng", True),
    ("malloc", "calloc", "realloc", "free"):
        ("memory", "{where} calls {name}(), but Env holds plain values only: its bytes are copied",
         "put an array into Env, or define c_open and c_close (see csrc/env.h)", False),
    ("sleep", "usleep", "nanosleep", "clock_nanosleep", "pause", "select", "poll"):
        ("speed", "{where} waits ({name})", "remove it: 'puffer-il env play' paces pictures by itself", False),
    ("printf", "puts", "putchar", "fprintf", "fputs", "fwrite", "perror"):
        ("speed", "{where} prints ({name}), which costs more than most steps",
         "remove it, or put it between #ifdef DEBUG and #endif", False),
}


def own_headers(env: EnvFile) -> list[Path]:
    """Those that are not the contract's own."""
    return [path for path in headers(env) if path.parent != CSRC or path.name not in OURS]


def code(path: Path) -> str:
    """The text with comments and literals blanked out, line by line where it was."""
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", lambda match: re.sub(r"[^\n]", " ", match[0]),
                  path.read_text(), flags=re.DOTALL)


def place(env: EnvFile, pattern: str) -> str:
    """`my_env.h:12`, where the pattern is first met in the environment's headers; the header if it is not."""
    for path in own_headers(env):
        found = re.search(pattern, code(path))
        if found:
            return f"{path.name}:{code(path)[:found.start()].count(chr(10)) + 1}"
    return f"{env.name}.h"


def program_source(env: EnvFile, fields: list[str]) -> str:
    """The generated translation unit, with csrc/check around its end."""
    table = "".join(f'{{"{name}", offsetof(Env, {name}), sizeof ((Env *)0)->{name}}}, ' for name in fields)
    return "\n".join([c_source(env).replace('#include "vec_env.h"', '#include "check/where.h"\n#include "vec_env.h"'),
                      f"#define CHECK_FIELDS {table}", '#include "check/main.h"', ""])


def env_fields(env: EnvFile) -> list[str]:
    """Names of the fields of Env, so that findings can tell which one; [] where they cannot be made out."""
    text = "\n".join(code(path) for path in own_headers(env))
    end = re.search(r"\}\s*Env\s*;", text)
    if not end:
        return []
    depth, start = 1, end.start()
    while depth and start:
        start -= 1
        depth += {"}": 1, "{": -1}.get(text[start], 0)
    body, before = re.sub(r"^\s*#.*$", "", text[start + 1:end.start()], flags=re.MULTILINE), ""
    while body != before:  # from the inside out
        before, body = body, re.sub(r"\{[^{}]*\}", " ", body)
    names = [re.match(r".*?(\w+)\s*(?:\[[^\]]*\]\s*)*$", part.strip(), re.DOTALL)
             for declaration in body.split(";") if ":" not in declaration and "(" not in declaration
             for part in declaration.split(",")]
    return [name[1] for name in names if name]


def check_types(env: EnvFile, checks: Checks) -> None:
    """Casts that make elements something else than env.toml says."""
    for path in own_headers(env):
        for match in CAST.finditer(code(path)):
            kind, array = SAME_TYPE.get(match[1], match[1]), match[2]
            declared = (env.action if array == "actions" else env.observation).dtype
            if kind != C_TYPES[declared]:
                line = code(path)[:match.start()].count("\n") + 1
                table = "action" if array == "actions" else "observation"
                checks["types"].add(f"wrong dtype: {path.name}:{line} takes io.{array} for {match[1]}, but env.toml "
                                    f"declares {declared}",
                                    f"drop the cast and use io.{array}[k] as it is, or change [{table}] in env.toml")


def check_warnings(env: EnvFile, told: str, checks: Checks) -> list[str]:
    """What the compiler said. Returns where it suspects that something is read before it is written."""
    compiles, unwritten = checks["compiles"], []
    for file, line, kind, text, flag in DIAGNOSTIC.findall(told):
        where, text = f"{Path(file).name}:{line}", text.replace("‘", "'").replace("’", "'")
        if kind != "warning":
            compiles.add(f"error: {where}: {text}", "mend this first; nothing else can be checked")
        elif "float-conversion" in flag:
            if "'Obs'" in text:
                checks["types"].add(f"wrong dtype? {where}: a fraction is cut off where observations are "
                                    f"{env.observation.dtype}: {text}", "write (Obs)(…) if that is meant, or declare "
                                    'dtype = "float32" in [observation] of env.toml', fatal=False)
        elif "incompatible-pointer" in flag and re.search(r"'(const )?(Obs|Action) \*'", text):
            checks["types"].add(f"wrong dtype: {where}: {text}", "point to Obs or Action, whatever env.toml makes them")
        else:
            compiles.add(f"warning: {where}: {text} [{flag}]", "look at it: most warnings of -Wall -Wextra are "
                         "mistakes", fatal=False)
            if "uninitialized" in flag:
                unwritten.append(f"{where}: {text}")
    return unwritten


def unwritten_lines(told: str) -> list[str]:
    """Where -fanalyzer sees that something is read before it is written."""
    return list(dict.fromkeys(f"{Path(file).name}:{line}: {text}" for file, line, _, text, flag in
                              DIAGNOSTIC.findall(told.replace("‘", "'").replace("’", "'"))
                              if "uninitialized-value" in flag))


def check_symbols(env: EnvFile, built: Path, hooks: set[str], checks: Checks) -> bool:
    """Variables outside Env and calls that no environment may make; True if there are such variables."""
    if not shutil.which("nm"):
        return False
    listed = subprocess.run(["nm", "-f", "sysv", str(built)], capture_output=True, text=True).stdout
    shared = False
    for line in listed.splitlines():
        name, _, _, kind, _, _, section = (*(part.strip() for part in line.split("|")), *[""] * 7)[:7]
        name = re.sub(r"\.\d+$", "", name).split(".")[-1]
        if re.match(r"\.data(?!\.rel\.ro)|\.l?bss|\*COM\*", section) and kind == "OBJECT" and name != "vec_api":
            shared = True
            where = place(env, rf"\b{name}\b[^;(]*;")
            checks["sharing"].add(f"shared global state: the variable {name} ({where}) is one for all environments",
                                  f"move {name} into Env, or make it const if it never changes")
        elif section == "*UND*":
            for check, text, remedy, fatal in (told for names, told in CALLS.items() if name in names):
                if check != "memory" or not hooks & {"OPEN", "SHARE"}:
                    where = place(env, rf"\b{name}\s*\(")
                    checks[check].add(text.format(where=where, name=name), remedy, fatal)
    return shared
