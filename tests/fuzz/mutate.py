"""Changes to valid inputs, aware of their structure: bytes, lines of text, trees of TOML and JSON, members of archives,
arrays, tensors, pickles, XML, protobuf and Arrow. An input is a dict of files; all chance comes from the generator that
is handed in.
"""

from __future__ import annotations

import io
import json
import math
import pickletools
import random
import re
import struct
import tomllib
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tomli_w
import torch

Files = dict[str, bytes]
INTEGERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, -128, 2**15, 2**16, 2**31 - 1, 2**31, -2**31, 2**32, 2**53, 2**62,
            2**63 - 1, 2**63, -2**63, 2**64, 10**30)
FLOATS = (0.0, -0.0, 0.5, -1.5, 1e-300, 1e30, -1e30, 1e300, math.inf, -math.inf, math.nan)
TEXTS = ("", " ", "a", "obs", "nan", "-1", "true", "null", "../../x", "/", ".", "~", "~nobody", "a" * 300, "\x1b[31m",
         "\u202e", "é", "\U0001f697", "\x00", "a\nb", "'", '"', "%s", "{}", "os:system", "cartpole", "CartPole-v1",
         "\udc80", "a:b", "2 * x", "x" * 20 + "()", "1e999", "0x10", "1_000", "<i4", "|O", ">f8", "<U9")
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?")
DTYPES = ("bool", "int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64", "complex64", "U4",
          "S3", ">f8", ">i4", "M8[s]", "i4,f4", "V5", "O", "longdouble")
NAMES = ("obs", "actions", "next_obs", "final_obs", "terminations", "truncations", "episode_starts", "rewards",
         "states", "weights", "meta", "episode_returns", "episode_lengths", "terminals", "timeouts", "observations",
         "acts",
         "indices", "terminal", "infos", "rews", "observation", "action", "Wout", "policy.pth", "data", "data.pkl")


def scalar(rng: random.Random) -> Any:
    """One value of any plain kind, the odd ones often."""
    return rng.choice((lambda: rng.choice(INTEGERS), lambda: rng.choice(FLOATS), lambda: rng.choice(TEXTS),
                       lambda: rng.random() < 0.5, lambda: rng.randint(-10, 10), lambda: rng.uniform(-2, 2),
                       list, dict))()


def raw(rng: random.Random, data: bytes) -> bytes:
    """Bytes flipped, inserted, removed, repeated, cut off, or made an odd number."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(made) + 1)
        kind = rng.randrange(8)
        if kind == 0 and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(made):
            made[at] = rng.choice((0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)))
        elif kind == 2:
            made[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 2, 8))))
        elif kind == 3:
            del made[at:at + rng.choice((1, 2, 8, 64))]
        elif kind == 4:
            size = rng.choice((1, 4, 16, 64))
            made[at:at] = made[at:at + size] * rng.choice((1, 2, 8))
        elif kind == 5 and rng.random() < 0.3:
            del made[at:]
        elif kind == 6:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(INTEGERS) % (1 << 8 * size)
            made[at:at + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 7:
            made[at:at + 8] = struct.pack("<d", rng.choice(FLOATS))
    return bytes(made)


def text(rng: random.Random, data: bytes) -> bytes:
    """Numbers and quoted texts exchanged, lines removed, repeated and moved, quotes and brackets lost."""
    kind = rng.randrange(7)
    numbers = list(NUMBER.finditer(data)) if kind < 2 else []
    quoted = list(re.finditer(rb'"[^"\n]*"', data)) if kind == 2 else []
    lines = data.split(b"\n")
    if numbers:
        found = rng.choice(numbers)
        return data[:found.start()] + str(rng.choice(INTEGERS + FLOATS)).encode() + data[found.end():]
    if quoted:
        found = rng.choice(quoted)
        inside = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
        return data[:found.start() + 1] + inside + data[found.end() - 1:]
    if kind == 3 and len(lines) > 1:
        del lines[rng.randrange(len(lines))]
    elif kind == 4:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    elif kind == 5:
        marks = [m.start() for m in re.finditer(rb"[\[\]{}()<>=\"',:/&;#]", data)]
        if marks:
            at = rng.choice(marks)
            mark = rng.choice((b"", b"[", b"]", b"{", b"}", b"=", b'"', b"<", b">", b"\x00", b",", b"[" * 3000))
            return data[:at] + mark + data[at + 1:]
    else:
        return raw(rng, data)
    return b"\n".join(lines)


def tree(rng: random.Random, value: Any, leaf: Callable[[random.Random, Any], Any] | None = None) -> Any:
    """A copy of nested lists and dicts, one place of which is exchanged, removed, repeated, renamed or wrapped."""
    places = list(_places(value))
    place = rng.choice(places)
    kind = rng.randrange(10)

    def changed(at: Any, path: tuple[Any, ...]) -> Any:
        if path:
            key, rest = path[0], path[1:]
            items = dict(at) if isinstance(at, dict) else list(at)
            if not rest and kind == 0:
                del items[key]
            elif not rest and kind == 1 and isinstance(items, dict):
                items[rng.choice((*TEXTS, *map(str, items)))] = items.pop(key)
            elif not rest and kind == 2 and isinstance(items, list):
                items[key:key] = [items[key]] * rng.choice((1, 2, 50))
            else:
                items[key] = changed(items[key], rest)
            return tuple(items) if isinstance(at, tuple) else items
        if leaf is not None and kind < 8:
            return leaf(rng, at)
        if kind == 3:
            return [at]
        if kind == 4:
            return {rng.choice(TEXTS[2:8]): at}
        if kind == 5 and isinstance(at, dict):
            return at | {rng.choice(TEXTS): scalar(rng)}
        if kind == 6:
            for _ in range(rng.choice((3, 40))):
                at = [at]
            return at
        return scalar(rng)

    return changed(value, place)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, inner in items:
        yield from _places(inner, (*path, key))


def toml(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.4:
        return text(rng, data)
    try:
        return tomli_w.dumps(tree(rng, tomllib.loads(data.decode()))).encode("utf-8", "surrogatepass")
    except (ValueError, TypeError, AttributeError, RecursionError):  # no TOML any more, or nothing that TOML can say
        return text(rng, data)


def as_json(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.3:
        return text(rng, data)
    try:
        return json.dumps(tree(rng, json.loads(data))).encode("utf-8", "surrogatepass")
    except (ValueError, TypeError, RecursionError):
        return text(rng, data)


def xml(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.4:
        return text(rng, data)
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        return text(rng, data)
    nodes = list(root.iter())
    node, other, kind = rng.choice(nodes), rng.choice(nodes), rng.randrange(6)
    if kind == 0:
        node.text = str(scalar(rng))
    elif kind == 1 and node.attrib:
        node.set(rng.choice(list(node.attrib)), str(scalar(rng)))
    elif kind == 2 and len(node):
        node.remove(rng.choice(list(node)))
    elif kind == 3:
        node.tag = other.tag
    elif kind == 4:
        node.extend(list(node)[:20])
    elif node not in list(other.iter()):
        node.append(other)
    try:
        return ElementTree.tostring(root)
    except (ValueError, TypeError, RecursionError):
        return text(rng, data)


def protobuf(rng: random.Random, data: bytes) -> bytes:
    """A message, one field of which is removed, repeated, numbered anew or changed, at any depth; lengths are then
    right again."""
    fields = list(_fields(data))
    if not fields or rng.random() < 0.1:
        return raw(rng, data)
    begin, inside, end, kind = rng.choice(fields)
    change = rng.randrange(8)
    if kind == 2 and change > 1 and end - inside > 1:
        made = protobuf(rng, data[inside:end])
        return data[:begin] + data[begin:begin + 1] + _varint(len(made)) + made + data[end:]
    if change == 0:
        return data[:begin] + data[end:]
    if change == 1:
        return data[:end] + data[begin:end] * rng.choice((1, 1, 20)) + data[end:]
    if change == 2:
        return data[:begin] + bytes((rng.randrange(1, 16) << 3 | kind,)) + data[begin + 1:]
    if kind == 0:
        return data[:inside] + _varint(rng.choice(INTEGERS) % 2**64) + data[end:]
    made = rng.choice(TEXTS).encode("utf-8", "surrogatepass") if kind == 2 else raw(rng, data[inside:end])
    return data[:begin + 1] + (_varint(len(made)) if kind == 2 else b"") + made + data[end:]


def _fields(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Where each field begins, where its value does, where it ends, and its wire type; nothing of what is none."""
    at, found = 0, []
    while at < len(data):
        kind, begin, at = data[at] & 7, at, at + 1
        size = 8 if kind == 1 else 4 if kind == 5 else 0
        inside = at
        if kind in (0, 2) and data[begin] < 128:
            value, shift = 0, 0
            while at < len(data):
                value |= (data[at] & 127) << shift
                at, shift = at + 1, shift + 7
                if data[at - 1] < 128:
                    break
            inside, size = (at, value) if kind == 2 else (inside, 0)
        elif kind not in (1, 5) or data[begin] >= 128:
            return
        at += size
        if at > len(data):
            return
        found.append((begin, inside, at, kind))
    yield from found


def _varint(value: int) -> bytes:
    made = b""
    while value > 127:
        made, value = made + bytes((value & 127 | 128,)), value >> 7
    return made + bytes((value,))


def arrow(rng: random.Random, data: bytes) -> bytes:
    """A table of Arrow, its values and columns changed as a tree, or its bytes."""
    import pyarrow

    if rng.random() < 0.5:
        return raw(rng, data)
    try:
        given = pyarrow.ipc.open_stream(data).read_all()
        given.validate(full=True)
        rows = given.to_pylist()
        table = pyarrow.Table.from_pylist(tree(rng, rows))
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return sink.getvalue().to_pybytes()
    except Exception:  # mutated before, or values that no column can hold
        return raw(rng, data)


def array(rng: random.Random, data: bytes) -> bytes:
    """An .npy: its header, its shape, its dtype or its numbers."""
    kind = rng.randrange(6)
    if kind == 0:
        return raw(rng, data)
    if kind == 1:  # what the header says
        head = data[:128]
        found = list(re.finditer(rb"\d+|'[^']*'|True|False", head[10:]))
        if not found:
            return raw(rng, data)
        one = rng.choice(found)
        new = rng.choice((b"0", b"-1", b"7", b"4611686018427387904", b"'<f8'", b"'|O'", b"'<U1000000'", b"True",
                          b"(),()", b"99999999999999999999", b"'<i1'", b"[('a','<f4')]"))
        made = head[:10 + one.start()] + new + head[10 + one.end():]
        return made[:127].ljust(127) + b"\n" + data[128:]
    try:
        given = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        return _npy(numbers(rng, given))
    except Exception:  # mutated before, or numbers that this dtype cannot hold
        return raw(rng, data)


def numbers(rng: random.Random, given: np.ndarray) -> np.ndarray:
    """An array with other values, another shape, or another dtype."""
    kind = rng.randrange(5)
    flat = given.reshape(-1).copy()
    if kind == 0 and flat.size:
        with np.errstate(all="ignore"):
            for _ in range(rng.choice((1, 3))):
                flat[rng.randrange(flat.size)] = np.array(rng.choice(FLOATS + INTEGERS[:14])).astype(given.dtype)
        return flat.reshape(given.shape)
    if kind == 1:
        return given.astype(rng.choice(DTYPES[:-2]))
    if kind == 2:
        shapes = [(-1,), (-1, 1), (1, -1), (*given.shape, 1), (-1, 1, 1), ()]
        return given.reshape(rng.choice(shapes if given.size == 1 else shapes[:-1]))
    if kind == 3 and given.ndim:
        return given[:rng.randrange(len(given) + 1)] if rng.random() < 0.6 else np.concatenate([given, given[-1:]])
    return np.zeros(rng.choice(((), (0,), (1,), (0, 3), (3, 0), (2, 2), (5,), (1,) * 20)), rng.choice(DTYPES[:-2]))


def _npy(given: np.ndarray) -> bytes:
    memory = io.BytesIO()
    np.lib.format.write_array(memory, given, allow_pickle=True)
    return memory.getvalue()


def pickle(rng: random.Random, data: bytes) -> bytes:
    """Instructions of a pickle removed, repeated or exchanged; it is never loaded here."""
    try:
        cuts = [at for _, _, at in pickletools.genops(data)]
    except Exception:  # mutated before
        return raw(rng, data)
    if rng.random() < 0.4 or len(cuts) < 4:
        return raw(rng, data)
    i, j = sorted(rng.sample(range(1, len(cuts)), 2))
    a, b = cuts[i], cuts[i + 1] if i + 1 < len(cuts) else len(data)
    c, d = cuts[j], cuts[j + 1] if j + 1 < len(cuts) else len(data)
    kind = rng.randrange(4)
    if kind == 0:
        return data[:a] + data[b:]
    if kind == 1:
        return data[:b] + data[a:b] * rng.choice((1, 1, 30)) + data[b:]
    if kind == 2:
        return data[:a] + data[c:d] + data[b:]
    extra = rng.choice((b"0", b"2", b"}", b"]", b")", b"N", b"(", b"\x94", b"s", b"a", b"b", b"R", b"u", b"e", b"\x85",
                        b"h\x00", b"K\xff", b"G" + struct.pack(">d", math.nan), b"Q", b"\x93", b"\x8f", b"\x90"))
    return data[:a] + extra + data[a:]


def archive(rng: random.Random, data: bytes) -> bytes:
    """A zip, whose members are mutated by what they are, removed, renamed or added; its checksums are then right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as given:
            members = {name: given.read(name) for name in given.namelist()}
    except Exception:  # mutated before
        return raw(rng, data)
    if rng.random() < 0.1 or not members:
        return raw(rng, data)
    name, kind = rng.choice(list(members)), rng.randrange(12)
    if kind == 0:
        del members[name]
    elif kind == 1:
        new = rng.choice((*NAMES, *(f"{one}.npy" for one in NAMES), *TEXTS[:12]))
        members[new.replace("\0", "")] = members.pop(name)
    elif kind == 2:
        other = rng.choice(list(members))
        members[name], members[other] = members[other], members[name]
    elif kind == 3:
        members[f"{rng.choice(NAMES)}.npy"] = _npy(numbers(rng, np.zeros(4)))
    else:
        members[name] = member(name)(rng, members[name])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED) as made:
        for one, content in members.items():
            made.writestr(zipfile.ZipInfo(one or "x"), content)
    return packed.getvalue()


def tensors(rng: random.Random, data: bytes) -> bytes:
    """What torch saved: a tree of tensors and plain values, or the archive that it is in."""
    if rng.random() < 0.3:
        return archive(rng, data)
    try:
        state = torch.load(io.BytesIO(data), weights_only=True)
        made = io.BytesIO()
        torch.save(tree(rng, state, _tensor), made)
        return made.getvalue()
    except Exception:  # mutated before, or what torch cannot save
        return archive(rng, data)


def _tensor(rng: random.Random, value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.dtype == torch.bfloat16:
        return scalar(rng)
    given = numbers(rng, value.detach().numpy())
    given = given if given.dtype.kind in "biufc" and given.dtype.itemsize <= 8 else given.astype("float64")
    return torch.from_numpy(np.ascontiguousarray(given.astype(given.dtype.newbyteorder("="))))


def member(name: str) -> Callable[[random.Random, bytes], bytes]:
    """How a file or a member of an archive is mutated, by its name."""
    for end, how in KINDS.items():
        if name.endswith(end):
            return how
    return raw


KINDS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    ".npz": archive, ".npy": array, ".toml": toml, ".json": as_json, ".jsonl": text, ".xml": xml, ".yaml": text,
    ".txt": text, "data.pkl": pickle, ".pkl": pickle, ".pth": tensors, ".pt": tensors, ".zip": archive, "/data": raw,
    "data": as_json, ".onnx": protobuf, ".arrow": arrow}


def mutated(rng: random.Random, files: Files) -> Files:
    """A copy with one to three changes."""
    made = dict(files)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(list(made))
        try:
            made[name] = member(name)(rng, made[name])
        except Exception:  # what was changed before is nothing that can be written again
            made[name] = raw(rng, made[name])
    return made
