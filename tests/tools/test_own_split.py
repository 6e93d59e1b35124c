"""prepare own: which images go to val, so that what belongs together is on one side."""

from pathlib import Path

import pytest

from lib.tools.prepare.own.split import choose_val


def chosen(folder: Path, names: list[str], ratio: float, contents: dict[str, str] | None = None) -> set[str]:
    """What goes to val; the content of a file is its name, if `contents` does not say otherwise."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((contents or {}).get(name, name))
    val, _ = choose_val(names, ratio, folder)
    assert val < {*names} and val
    assert choose_val(names[::-1], ratio, folder)[0] == val  # whatever the order
    return val


def test_films_and_folders_stay_whole(tmp_path):
    films = [f'{film}_{frame:04}.jpg' for film in ('barn', 'field', 'pond', 'road', 'yard') for frame in range(1, 21)]
    folders = [f'horse {i}/{frame}.jpg' for i, frame in ((i, 3 * i + f) for i in range(10) for f in range(1, 11))]
    val = chosen(tmp_path, films + folders, 0.1)
    for film in {name.rpartition('_')[0] or name.rpartition('/')[0] for name in films + folders}:
        own = {name for name in films + folders if name.startswith(film)}
        assert own <= val or not own & val
    assert 10 <= len(val) <= 30


def test_one_long_film_is_cut_at_its_end(tmp_path):
    assert chosen(tmp_path, [f'frame{i}.jpg' for i in range(5, 105)], 0.1) == {f'frame{i}.jpg' for i in range(95, 105)}


def test_ids_are_no_frames(tmp_path):
    names = [f'{i * i:012}.jpg' for i in range(100)]
    val = chosen(tmp_path, names, 0.2)
    assert len(val) == 20 and val != {*names[-20:]}


@pytest.mark.parametrize('numbers', [range(40), [i * i for i in range(40)]], ids=['frames', 'ids'])
def test_copies_stay_together(numbers, tmp_path):
    """Roboflow's augmented copies, by their names; others by their content."""
    names = [f'{i}_jpg.rf.{copy}{i:03}abc.jpg' for i in numbers for copy in 'abc']
    names += [f'again_{i}.jpg' for i in numbers]
    val = chosen(tmp_path, names, 0.06, {f'again_{i}.jpg': f'{i}_jpg.rf.a{i:03}abc.jpg' for i in numbers})
    # The content of a copy is its name, so `again` has that of the first.
    for i in numbers:
        own = {name for name in names if name.startswith((f'{i}_jpg', f'again_{i}.'))}
        assert own <= val or not own & val


def test_nothing_but_copies(tmp_path):
    names = ['a.jpg', 'b.jpg']
    assert len(chosen(tmp_path, names, 0.1, dict.fromkeys(names, 'the same'))) == 1
    val, how = choose_val(names, 0.1, tmp_path)
    assert 'copy' in how and len(val) == 1
