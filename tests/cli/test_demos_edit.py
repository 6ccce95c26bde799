"""`puffer-il demos edit` and `demos check` on the command line."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.demos import read_demos
from puffer_il.native.catalogue import env_folders
from tests.demos.judge import damage
from tests.support.command_line import one_line
from tests.support.demos import make_demos, same_demos


@pytest.fixture
def late(tmp_path):
    d = damage.good("cartpole")
    damage.late(d)
    np.savez(tmp_path / "late.npz", **d)
    return tmp_path / "late.npz"


def edit(*words):
    return main(["demos", "edit", *map(str, words)])


def test_a_warning_names_the_command_that_mends(late, tmp_path, capsys):
    assert main(["demos", "check", str(late), "--env", "cartpole"]) == 0
    said = capsys.readouterr().out
    assert f"warning: {late}: episode 0, row " in said and "pair them anew with demos edit --shift 1" in said
    assert "enough: cloning needs about" in said and "algorithm: gail" in said
    out = tmp_path / "mended.npz"
    assert edit(late, "--out", out, "--shift", 1) == 0
    assert main(["demos", "check", str(out), "--env", "cartpole"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{out}: nothing looks wrong"


def test_a_verdict_is_json_for_programs(late, capsys):
    assert main(["demos", "check", str(late), "--env", "cartpole", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["env"], told["algorithm"]["name"]) == ("usable", "cartpole", "gail")
    (found,) = [finding for finding in told["findings"] if finding["kind"] == "late-frames"]
    assert found["file"] == str(late) and found["episode"] == 0 and found["remedy"].endswith("--shift 1")
    assert main(["demos", "check", str(late), "--env", "acrobot", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"] == "refused" and err.count("\n") == 1


class Page(HTMLParser):
    """What a browser would load from elsewhere or run, and which elements there are."""

    def __init__(self):
        super().__init__()
        self.tags, self.loads = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "onload", "onclick")]


def test_a_page_holds_the_findings_and_pictures_and_needs_nothing_else(late, tmp_path, capsys):
    target = tmp_path / "new" / "page.html"
    assert main(["demos", "check", str(late), "--env", "cartpole", "--html", str(target)]) == 0
    text, page = target.read_text(), Page()
    page.feed(text)
    assert page.loads == [] and "script" not in page.tags and page.tags.count("svg") >= 8 and "http" not in text
    assert "observations come one row late" in text
    blocked = tmp_path / "file"
    blocked.write_text("")
    capsys.readouterr()
    assert main(["demos", "check", str(late), "--html", str(blocked / "page.html")]) == 2
    assert "cannot be written" in one_line(capsys)


def test_a_page_shows_what_a_file_calls_itself_as_text(tmp_path):
    name = tmp_path / "<script>alert(1)<"
    np.savez(name.with_suffix(".npz"), **damage.good("cartpole"))
    assert main(["demos", "check", f"{name}.npz", "--html", str(tmp_path / "p.html")]) == 0
    page = Page()
    page.feed((tmp_path / "p.html").read_text())
    assert "script" not in page.tags


def test_the_environment_is_the_one_that_the_file_names(tmp_path, capsys):
    shipped = str(env_folders()["pendulum"] / "demos" / "expert.npz")
    demos, out = read_demos(shipped), tmp_path / "p.npz"
    demos.save(out, env="pendulum", collected="puffer-il demos collect pendulum")
    assert main(["demos", "check", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["env"] == "pendulum"
    demos.save(out, env="pendulum", collected="puffer-il demos collect pendulum --env.kwargs.g 3")
    assert main(["demos", "check", str(out)]) == 0
    assert "not judged against an environment; name it with --env pendulum" in capsys.readouterr().out
    demos.save(out, env="os:system", collected="")
    assert main(["demos", "check", str(out)]) == 0
    assert "not judged against os:system, which the file names" in capsys.readouterr().out


def test_edits_are_done_in_the_order_in_which_they_are_given(tmp_path, capsys):
    shipped, a, b = env_folders()["mountaincar"] / "demos" / "expert.npz", tmp_path / "a.npz", tmp_path / "b.npz"
    assert edit(shipped, "--out", a, "--best", 5, "--keep", "0-1") == 0
    assert edit(shipped, "--out", b, "--keep", "0-1", "--best", 5) == 0
    assert read_demos(a).returns.min() > read_demos(b).returns.min()
    capsys.readouterr()
    assert main(["demos", "info", str(a)]) == 0
    said = capsys.readouterr().out
    assert f"edited by: puffer-il demos edit {shipped} --out {a} --best 5 --keep 0-1 ({shipped} sha256 " in said
    assert "kept the best 5: 5 of 10" in said


def test_files_are_split_and_merged(tmp_path, capsys):
    shipped, part = env_folders()["acrobot"] / "demos" / "expert.npz", tmp_path / "part.npz"
    assert edit(shipped, "--out", part, "--split", 0.7, "--drop-actions") == 0
    assert [read_demos(p).num_episodes for p in (part, tmp_path / "part-rest.npz")] == [7, 3]
    assert edit(part, tmp_path / "part-rest.npz", "--out", tmp_path / "all.npz") == 0
    merged = read_demos(tmp_path / "all.npz")
    assert merged.actions is None and len(merged) == len(read_demos(shipped))
    capsys.readouterr()
    for words, says in ((["--out", part, part], "is the file that is read"),
                        (["--out", tmp_path / "x.npz", part, "--split", 0.5, "--split", 0.5], "is given twice"),
                        (["--out", tmp_path / "x.npz", part, "--split", 2], "not a number between 0 and 1"),
                        (["--out", tmp_path / "x.npz", part, "--rescale-actions=1,1"], "not LOW,HIGH"),
                        (["--out", tmp_path / "x.npz", part, "--env.kwargs.g", 1], "name it with --env ENV")):
        assert edit(*words) == 2
        assert says in one_line(capsys)
    assert not (tmp_path / "x.npz").exists()


EDITS = [("--keep", "0,2"), ("--drop", "1"), ("--best", "2", "--subsample", "3"), ("--min-length", "4"),
         ("--split", "0.5"), ("--subsample", "2"), ("--shift", "1"), ("--shift", "-1"), ("--cut-at", "4"),
         ("--drop-copies",), ("--drop-actions",), ("--rewards", "none"), ("--noise-actions", "0.1"), ("--cut-idle",),
         ("--noise-obs", "0.1"), ("--demos.episodes", "2"), ("--demos.subsample", "2", "--keep", "1")]


@pytest.mark.parametrize("words", EDITS)
def test_a_folder_of_mapped_arrays_is_edited_as_a_file_is(tmp_path, monkeypatch, words):
    """The same rows, a few episodes at a time, and nothing of the observations is read at once but where it has to."""
    demos = make_demos((5, 3, 4, 5), continuous=True)
    demos.save(tmp_path / "d.npz")
    demos.save(tmp_path / "d.shards")
    monkeypatch.setattr("puffer_il.demos.edit.by_number.PART_BYTES", 8 * demos.obs[:1].nbytes)
    for kind, other in (("npz", "npz"), ("shards", "shards"), ("shards", "npz")):
        assert edit(tmp_path / f"d.{kind}", "--out", tmp_path / f"{kind}-{other}.{other}", *words) == 0
    for rest in ("", "-rest") if "--split" in words else ("",):
        expected = read_demos(tmp_path / f"npz-npz{rest}.npz")
        for name in (f"shards-shards{rest}.shards", f"shards-npz{rest}.npz"):
            same_demos(expected, found := read_demos(tmp_path / name))
            assert len(found.notes) == len(expected.notes)


def test_folders_and_files_are_merged_by_number(tmp_path):
    for name, lengths in (("a.shards", (3, 2)), ("b.npz", (4,)), ("c.shards", (1, 5))):
        make_demos(lengths, continuous=True).save(tmp_path / name)
    files = [tmp_path / name for name in ("a.shards", "b.npz", "c.shards")]
    assert edit(*files, "--out", tmp_path / "all.shards", "--drop", "1") == 0
    sets = [read_demos(file) for file in files]
    made = read_demos(tmp_path / "all.shards")
    assert made.lengths.tolist() == [3, 4, 1, 5]
    for name in ("obs", "next_obs", "actions"):
        rows = np.concatenate([np.asarray(getattr(demos, name)) for demos in sets])
        np.testing.assert_array_equal(getattr(made, name), np.delete(rows, [3, 4], 0))


def test_edits_that_look_at_observations_larger_than_memory_are_refused(tmp_path, monkeypatch, capsys):
    make_demos((5, 3), continuous=True).save(tmp_path / "d.shards")
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1))
    assert edit(tmp_path / "d.shards", "--out", tmp_path / "e.shards", "--keep", "0") == 0
    assert edit(tmp_path / "d.shards", "--out", tmp_path / "f.shards", "--cut-idle") == 2
    assert "--cut-idle looks at all observations: 8 rows, which take" in one_line(capsys)


def test_a_flipped_bit_of_a_folder_is_found_by_check(tmp_path, capsys):
    make_demos((5, 3)).save(tmp_path / "d.shards")
    assert main(["demos", "check", str(tmp_path / "d.shards")]) == 0
    path = tmp_path / "d.shards" / "obs.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 64
    path.write_bytes(content)
    assert main(["demos", "check", str(tmp_path / "d.shards")]) == 2
    assert "obs.npy is damaged: its checksum is" in one_line(capsys)
