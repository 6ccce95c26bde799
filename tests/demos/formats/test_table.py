"""Tables in text files and in Parquet, and the TOML that says what their columns are."""

import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from puffer_il.demos.formats import table
from tests.support.demos import make_demos, same_demos
from tests.support.tables import write_parquet

DRIVE = """run,t,x,v,steer,note
b,0.0,0,10,0.5,start
b,0.2,2,12,0.25,
b,0.1,1,11,-0.5,
a,5,7,20,1,x
a,6,8,21,0,y
"""
TOML = 'obs = ["x", "v"]\nactions = ["steer"]\nepisode = "run"\ntime = "t"\n'


def given(tmp_path, text=DRIVE, toml=TOML, name="log.txt"):
    (tmp_path / name).write_text(text)
    (tmp_path / "c.toml").write_text(toml)
    return tmp_path / name, str(tmp_path / "c.toml")


def read(tmp_path, text=DRIVE, toml=TOML):
    path, columns = given(tmp_path, text, toml)
    return read_demos(path, columns=columns)


def test_rows_are_put_in_the_order_of_episode_and_time(tmp_path):
    demos = read(tmp_path)
    assert demos.obs.tolist() == [[0, 10], [1, 11], [7, 20]] and demos.next_obs.tolist() == [[1, 11], [2, 12], [8, 21]]
    assert demos.actions.tolist() == [[0.5], [-0.5], [1.0]] and demos.actions.dtype == np.float32
    assert demos.episode_starts.tolist() == [0, 2] and demos.truncated.all()
    assert demos.notes[0] == "2 of 5 rows were not in the order of episode and time: they were sorted"


@pytest.mark.parametrize("change", [lambda text: text.replace(",", ";").replace(".", ","),
                                    lambda text: text.replace(",", "\t"), lambda text: "\ufeff" + text,
                                    lambda text: text.replace("\n", "\r\n"),
                                    lambda text: text.replace("b,0.1", "\nb,0.1"),
                                    lambda text: text.replace("start", '"many, many\nlines"')])
def test_each_way_to_write_the_same_cells_gives_the_same_rows(tmp_path, change):
    text = change(DRIVE)
    same_demos(read(tmp_path, text, TOML + ('decimal = ","\n' if ";" in text else "")), read(tmp_path))


def test_units_and_scales_are_applied_by_column(tmp_path):
    demos = read(tmp_path, toml=TOML + 'units = {v = "km/h", steer = "deg"}\nscale.steer = 2\noffset.x = 100\n')
    np.testing.assert_allclose(demos.obs[0], [100, 10 / 3.6], rtol=1e-6)
    np.testing.assert_allclose(demos.actions[:, 0], np.deg2rad([1, -1, 2]), rtol=1e-6)


def test_texts_of_actions_become_the_numbers_of_their_choices(tmp_path):
    text = "s,act\n1,left\n2,right\n3,left\n4,stay\n"
    demos = read(tmp_path, text, 'obs = ["s"]\nactions = "act"\nchoices.act = ["left", "stay", "right"]\n')
    assert demos.actions.tolist() == [[0], [2], [0]] and demos.actions.dtype == np.int32
    assert demos.notes[0] == "no column tells episodes apart: all rows are one episode"


def test_a_table_of_lists_names_the_parts_of_the_observation(tmp_path):
    toml = 'actions = ["steer"]\nepisode = "run"\ntime = "t"\n[obs]\nspeed = ["v"]\nplace = ["x", "t"]\n'
    demos = read(tmp_path, toml=toml)
    assert [field.path for field in demos.layout.fields] == [("place",), ("speed",)]
    assert demos.layout.unpack(demos.obs)["speed"].tolist() == [[10], [11], [20]]


def test_a_pattern_takes_columns_in_the_order_of_their_numbers(tmp_path):
    names = [f"q{k}" for k in (10, 9, 1)]
    demos = read(tmp_path, ",".join(["u", *names]) + "\n0.5,10,9,1\n0.5,20,8,2\n", 'obs = ["q*"]\nactions = ["u"]\n')
    assert demos.obs.tolist() == [[1, 9, 10]]


def test_ends_are_read_and_tell_episodes_apart_where_nothing_else_does(tmp_path):
    text = "s,u,r,crash,late\n0,.5,1,0,no\n1,.5,2,1,no\n2,.5,4,,no\n3,.5,8,,no\n4,.5,16,,yes\n"
    demos = read(tmp_path, text, 'obs = ["s"]\nactions = ["u"]\nrewards = "r"\nterminated = "crash"\n'
                                 'truncated = "late"\n')
    assert demos.episode_starts.tolist() == [0, 1] and demos.returns.tolist() == [3, 28]
    assert demos.obs[:, 0].tolist() == [0, 2, 3] and demos.truncated.all()  # the rows with the ends have no successor


def test_a_final_row_keeps_the_end_and_the_last_action(tmp_path):
    text = "s,u,r,crash\n0,.5,1,0\n1,.5,2,1\n9,,,\n2,.5,4,0\n3,-,,\n"
    toml = 'obs = ["s"]\nactions = ["u"]\nrewards = "r"\nterminated = "crash"\nepisode = "s"\nfinal_rows = true\n'
    demos = read(tmp_path, "e," + text.replace("\n", "\n7,", 3).replace("\n2,", "\n8,2,").replace("\n3,", "\n8,3,"),
                 toml.replace('episode = "s"', 'episode = "e"'))
    assert demos.obs[:, 0].tolist() == [0, 1, 2] and demos.next_obs[:, 0].tolist() == [1, 9, 3]
    assert demos.terminated.tolist() == [True, False] and demos.rewards.tolist() == [1, 2, 4]


def test_a_gap_in_time_begins_another_episode(tmp_path):
    demos = read(tmp_path, "t,s,u\n2024-05-01 12:00:00,0,.5\n2024-05-01 12:00:01,1,.5\n2024-05-01 13:00:00,2,.5\n"
                           "2024-05-01 13:00:02,3,.5\n", 'obs = ["s"]\nactions = ["u"]\ntime = "t"\ngap = 5\n')
    assert demos.obs[:, 0].tolist() == [0, 2] and demos.num_episodes == 2
    assert demos.notes[0] == "1 episodes begin after more than 5 of t without a row"


def test_several_columns_together_tell_episodes_apart(tmp_path):
    text = "file,car,t,s,u\na,1,0,0,.5\na,2,0,10,.5\na,1,1,1,.5\na,2,1,11,.5\nb,1,0,20,.5\nb,1,1,21,.5\n"
    demos = read(tmp_path, text, 'obs = ["s"]\nactions = ["u"]\ntime = "t"\nepisode = ["file", "car"]\n')
    assert demos.obs[:, 0].tolist() == [0, 10, 20] and demos.next_obs[:, 0].tolist() == [1, 11, 21]


@pytest.mark.parametrize(("old", "new", "message"), [
    ("b,0.2,2,12", "b,0.2,,12", r"line 3, column 'x': the cell is '', no value; fill it"),
    ("a,6,8,21", "a,6,8,NaN", r"line 6, column 'v': the cell is 'NaN', no value"),
    ("a,6,8,21", "a,6,8,fast", r"line 6, column 'v': 'fast' is no number; correct it, or say what texts mean"),
    ("a,6,8,21", "a,6,8,inf", r"line 6, column 'v': 'inf' is not finite"),
    ("a,6,8,21,0,y", "a,6,8", r"line 6 has 3 cells but the header 6"),
    ("b,0.1", ",0.1", r"line 4, column 'run': names no episode"),
    ("b,0.1", "b,noon", r"line 4, column 't': 'noon' is neither a number nor a date"),
    ("b,0.1", "b,0.2", r"line 3 and line 4 are of the same episode and the same t"),
    ("x,v", "x,x", r"two columns are called 'x'"),
    (DRIVE, "1,2,3,4,5,6\n1,2,3,4,5,6\n", r"the first line holds no names of columns"),
    (DRIVE, "run,t,x,v,steer\n", r"holds no rows"),
    ('start', '"start', r"line \d+: .*; mend its quotes"),
    ("start", "x" * 9000, None),
    ("0.5,", f"{'1' * 299}x,", r"line 2, column 'steer': the cell has 300 characters"),
])
def test_what_is_wrong_with_a_cell_is_told_by_line_and_column(tmp_path, old, new, message):
    text = DRIVE.replace(old, new, 1)
    if message is None:
        assert len(read(tmp_path, text)) == 3
        return
    with pytest.raises(InputError, match=message) as refused:
        read(tmp_path, text)
    assert "log.txt" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(("toml", "message"), [
    ('actions = ["steer"]', "has no key 'obs'; name the columns"),
    ('obs = ["x"]\nreward = "r"', "unknown key 'reward'; did you mean 'rewards'"),
    ('obs = ["speed"]', "unknown column 'speed'"),
    ('obs = ["x"]\ntime = 3', "time = 3 must be a name"),
    ('obs = ["x"]\nunits.v = "parsec"', "unknown unit of v 'parsec'"),
    ('obs = ["x"]\nscale.v = "2"', "scale.v = '2' must be a number"),
    ('obs = ["x"]\nscale.w = 2', "unknown column 'w'"),
    ('obs = {columns = ["x", "v"], shape = [3]}', r"2 columns hold 2 numbers, but shape is \[3\]"),
    ('obs = {columns = ["steer"], dtype = "uint8"}', r"line 2 holds \[0.5\], which uint8 cannot hold"),
    ('obs = {columns = ["x"], dtype = "object"}', "obs.dtype = 'object' must be a NumPy dtype"),
    ('obs = ["x"', "c.toml"),
])
def test_what_is_wrong_with_the_toml_is_told_by_key(tmp_path, toml, message):
    with pytest.raises(InputError, match=message) as refused:
        read(tmp_path, toml=toml)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_refused_with_the_remedy(tmp_path, encoding):
    path, columns = given(tmp_path)
    path.write_bytes(DRIVE.replace("start", "Straße").encode(encoding))
    with pytest.raises(InputError, match=r"byte \d+ is not UTF-8; save it as CSV in UTF-8"):
        read_demos(path, columns=columns)


def test_a_flag_that_is_neither_true_nor_false_is_named(tmp_path):
    with pytest.raises(InputError, match="line 3, column 'done': 'maybe' is neither true nor false; write 1 or 0"):
        read(tmp_path, "s,u,done\n1,.5,no\n2,.5,maybe\n", 'obs = ["s"]\nactions = ["u"]\nterminated = "done"\n')


def test_rows_after_an_end_are_named_by_their_lines(tmp_path):
    with pytest.raises(InputError, match="line 2 ends an episode, which goes on in line 3; cut its rows there"):
        read(tmp_path, "e,s,u,done\n1,0,.5,1\n1,1,.5,0\n1,2,.5,1\n",
             'obs = ["s"]\nactions = ["u"]\nepisode = "e"\nterminated = "done"\n')


def test_without_a_toml_the_columns_are_listed_with_the_remedy(tmp_path):
    path, _ = given(tmp_path)
    with pytest.raises(InputError, match=r"is a table with the columns run, t, x, v, steer, note; say what they are "
                                         r"with --columns FILE.toml .*: obs = \["):
        read_demos(path)


def test_parquet_holds_the_same_table(tmp_path):
    names, *rows = [line.split(",") for line in DRIVE.splitlines()]
    cells = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    numbers = {name: [float(x) for x in column] for name, column in cells.items() if name not in ("run", "note")}
    path = write_parquet(tmp_path / "d.bin", cells | numbers)
    _, columns = given(tmp_path)
    same_demos(read_demos(path, columns=columns), read(tmp_path))
    path = write_parquet(tmp_path / "d.bin", {"s": [[1.0, 2.0], [3.0, 4.0]], "u": [0.5, float("nan")]})
    (tmp_path / "d.toml").write_text('obs = ["s"]\nactions = ["u"]\n')
    with pytest.raises(InputError, match="row 1, column 'u': holds NaN or infinity; fill it"):
        read_demos(path)


def exact_floats(n):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 4 * n, dtype=np.uint32).view(np.float32)
    return bits[np.isfinite(bits)][:n]


@pytest.mark.parametrize("made", [{}, {"continuous": True, "columns": 3}, {"obs_shape": (2, 3), "obs_dtype": "uint8"},
                                  {"rewards": False, "obs_shape": ()}])
def test_what_is_written_is_read_back_as_it_was(tmp_path, made):
    demos = make_demos((3, 1, 4), **made)
    table.write(tmp_path / "out.csv", demos)
    same_demos(read_demos(tmp_path / "out.csv"), demos)


def test_every_float32_is_read_back_as_it_was(tmp_path):
    n = 3000
    obs = exact_floats(2 * n + 2).reshape(-1, 2)
    ends = np.arange(n) == n - 1
    demos = read_demos({"obs": obs[:n], "next_obs": obs[1:n + 1], "actions": exact_floats(n), "terminations": ends,
                        "truncations": ~ends & False, "rewards": exact_floats(n)})
    table.write(tmp_path / "out.csv", demos)
    same_demos(read_demos(tmp_path / "out.csv"), demos)


def test_named_parts_are_written_and_read_back_by_name(tmp_path):
    n, rng = 5, np.random.default_rng(0)
    arm, goal = rng.normal(size=(n + 1, 2)).astype("f4"), rng.integers(0, 9, (n + 1, 2, 2), "u1")
    obs, following = ({"pose": {"arm": arm[k:n + k]}, "goal": goal[k:n + k]} for k in (0, 1))
    demos = read_demos({"obs": obs, "next_obs": following, "actions": {"a": rng.normal(size=n), "b": np.ones((n, 2))},
                        "terminations": np.arange(n) == n - 1, "truncations": np.zeros(n, bool)})
    table.write(tmp_path / "out.csv", demos)
    back = read_demos(tmp_path / "out.csv")
    same_demos(back, demos)
    assert back.layout == demos.layout and [path for path, *_ in back.action_parts] == [("a",), ("b",)]


def test_states_and_facts_of_whole_episodes_may_be_columns(tmp_path):
    (tmp_path / "d.csv").write_text("x,a,run,end,q1,q2,whole,steps,cut\n" + "".join(
        f"{k},{k % 2},{k // 3},{int(k == 2)},{k}.5,-1,{7 + k // 3}.25,40,{k // 3}\n" for k in range(6)))
    (tmp_path / "d.toml").write_text('''obs = ["x"]
actions = ["a"]
episode = "run"
terminated = "end"
states = ["q*"]
episode_returns = "whole"
episode_lengths = "steps"
episode_truncations = "cut"
final_rows = true
''')
    demos = read_demos(tmp_path / "d.csv")
    assert demos.states.tolist() == [[0.5, -1], [1.5, -1], [3.5, -1], [4.5, -1]]
    assert demos.returns.tolist() == [7.25, 8.25] and demos.whole_lengths.tolist() == [40, 40]
    assert demos.truncated.tolist() == [False, True] and demos.truncations.tolist() == [False, False, False, True]
    told = (tmp_path / "d.toml").read_text()
    (tmp_path / "d.toml").write_text(f"{told}open_ends = true\n")
    assert read_demos(tmp_path / "d.csv").truncations.tolist() == [False] * 4
    (tmp_path / "d.toml").write_text(told.replace('"steps"', '"whole"'))
    with pytest.raises(InputError, match=r"episode_lengths is float64 .* must be a whole number for each of 4 rows"):
        read_demos(tmp_path / "d.csv")


def test_what_a_table_cannot_hold_is_refused(tmp_path):
    with pytest.raises(InputError, match="has 12288 numbers, as pictures have, too many for columns"):
        table.write(tmp_path / "out.csv", make_demos((2,), obs_shape=(64, 64, 3), obs_dtype="uint8"))
    assert not (tmp_path / "out.csv").exists()


def test_the_command_line_reads_and_writes_tables(tmp_path, capsys):
    path, columns = given(tmp_path)
    assert main(["demos", "import", str(path), str(tmp_path / "d.npz"), "--columns", columns]) == 0
    assert main(["demos", "export", str(tmp_path / "d.npz"), str(tmp_path / "out.csv"), "--to", "table"]) == 0
    assert main(["demos", "info", str(tmp_path / "out.csv")]) == 0
    assert "2: 0 terminated, 2 truncated" in capsys.readouterr().out
    assert main(["demos", "info", str(tmp_path / "d.npz"), "--columns", columns]) == 2
    assert "demos.columns is given, but only the format table takes it" in capsys.readouterr().err
    assert main(["demos", "export", str(tmp_path / "d.npz"), str(tmp_path / "o"), "--to", "robotics"]) == 2


def test_blocks_of_a_table_are_what_the_whole_is(tmp_path, monkeypatch):
    """Quoted cells, line breaks in them, empty lines, texts that stand for choices and missing cells of final rows
    included, whatever is taken apart at once."""
    rows = [f"{k // 7},{k % 7 / 10},{k * 0.25},{'0.5' if k % 2 else '1.5'},{'' if k % 7 == 6 else k % 3}"
            for k in range(49)]
    rows[20] += "\n"
    text = "\n".join(["run,t,x,gear,u", *rows[:30], *(row + "\r" for row in rows[30:])])
    quoted = text.replace("28,", '"28",').replace("4,0.3,", '4,"0.3\n",')
    (tmp_path / "d.toml").write_text('obs = ["x", "gear"]\nactions = ["u"]\nepisode = "run"\ntime = "t"\n'
                                     'final_rows = true\nchoices.gear = ["0.5", "1.5"]\n')
    found = []
    for cells in (10**6, 40, 5):
        monkeypatch.setattr("puffer_il.demos.csv_text.CELLS", cells)
        for content in (text, quoted):
            (tmp_path / "d.csv").write_text(content, newline="")
            found.append(read_demos(tmp_path / "d.csv"))
    assert found[0].actions.tolist() == [[k % 3] for k in range(49) if k % 7 != 6]
    assert found[0].obs[:3].tolist() == [[0, 1], [0.25, 0], [0.5, 1]]
    for demos in found[1:]:
        same_demos(demos, found[0])


@pytest.mark.parametrize("cells", [10**6, 12])
def test_the_first_fault_of_a_table_is_told_by_its_own_line_whatever_comes_behind_it(tmp_path, monkeypatch, cells):
    monkeypatch.setattr("puffer_il.demos.csv_text.CELLS", cells)
    (tmp_path / "d.toml").write_text('obs = ["x"]\nepisode = "run"\ntime = "t"\n')
    lines = ["run,t,x", '0,0,"1\n.5"', "", "0,1,2", "0,2", '0,3,"4']
    (tmp_path / "d.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match="line 6 has 2 cells but the header 3"):
        read_demos(tmp_path / "d.csv")
    (tmp_path / "d.csv").write_text("\n".join([*lines[:4], "0,2,3", lines[5]]))
    with pytest.raises(InputError, match=r"line 7: .*; mend its quotes"):
        read_demos(tmp_path / "d.csv")
    (tmp_path / "d.csv").write_bytes("\n".join(["run,t,x", "0,0,1", "0,1,2", "0,2,"]).encode() + b"\xff\n")
    with pytest.raises(InputError, match="byte 24 is not UTF-8"):
        read_demos(tmp_path / "d.csv")
