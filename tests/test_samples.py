"""Reading samples: what is accepted, how it is scaled, and the message for everything else."""

from __future__ import annotations

import io
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tinygen.arrayfiles import MAX_BYTES
from tinygen.errors import DataError, TinygenError, UsageError
from tinygen.graph import Graph, GraphBuilder, QParams
from tinygen.ops import add, reshape
from tinygen.samples import Grid, Options, Samples, load_samples, quantize_inputs


def one_input(shape: tuple[int, ...] = (4, 3), qparams: QParams | None = None) -> Graph:
    """A model with one input 'image'."""
    b = GraphBuilder("one")
    x = b.input("image", shape, qparams)
    return b.build((b.add("reshape", "flat", (x,), reshape.Attrs((int(np.prod(shape)),)), qparams),))


def two_inputs() -> Graph:
    """A model with the inputs 'left' and 'right'."""
    b = GraphBuilder("two")
    left, right = b.input("left", (3,)), b.input("right", (3,))
    return b.build((b.add("add", "sum", (left, right), add.OP.attrs()),))


def message(call: object, kind: type[TinygenError] = DataError) -> str:
    """The error's text, checked for the house's form: one to five lines."""
    with pytest.raises(kind) as caught:
        call()  # type: ignore[operator]
    text = str(caught.value)
    assert 1 <= len(text.splitlines()) <= 5 and text
    return text


# ---- what is accepted


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "int64", "float16", "float32", "float64", "bool"]
)
def test_numbers_are_used_as_they_stand(tmp_path: Path, dtype: str) -> None:
    x = np.arange(24).reshape(2, 4, 3).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    samples = load_samples(tmp_path / "x.npy", one_input())
    assert samples.x[0].dtype == np.float32 and np.array_equal(samples.x[0], x.astype(np.float32))
    assert samples.y is None and samples.count == 2


@pytest.mark.parametrize("key", ["x", "image"])
def test_npz_with_labels(tmp_path: Path, key: str) -> None:
    np.savez(
        tmp_path / "s.npz", **{key: np.ones((5, 4, 3), np.int8), "y": np.arange(5), "id": np.array(["a"] * 5)}
    )
    samples = load_samples(tmp_path / "s.npz", one_input())
    assert samples.y is not None and samples.y.tolist() == [0, 1, 2, 3, 4]


def test_npz_of_several_inputs_by_name(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "s.npz", right=np.full((2, 3), 2.0), left=np.full((2, 3), 1.0))
    samples = load_samples(tmp_path / "s.npz", two_inputs())
    assert [float(x[0, 0]) for x in samples.x] == [1.0, 2.0]


def test_folder_of_npy_files_in_the_order_of_names(tmp_path: Path) -> None:
    for i in (2, 0, 1):
        np.save(tmp_path / f"sample_{i}.npy", np.full((4, 3), i, np.uint8))
    (tmp_path / "notes.txt").write_text("not a sample")
    assert load_samples(tmp_path, one_input()).x[0][:, 0, 0].tolist() == [0, 1, 2]


def test_scale_and_offset(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((1, 4, 3), 100, np.uint8))
    samples = load_samples(tmp_path / "x.npy", one_input(), Options(scale=0.5, offset=-3.0))
    assert np.all(samples.x[0] == 47.0)


def test_int8_samples_for_an_int8_model_are_its_integers(tmp_path: Path) -> None:
    q = QParams.per_tensor(0.25, 7)
    x = np.arange(-6, 6, dtype=np.int8).reshape(1, 4, 3)
    np.save(tmp_path / "x.npy", x)
    graph = one_input(qparams=q)
    assert np.array_equal(quantize_inputs(graph, load_samples(tmp_path / "x.npy", graph).x)[0], x)
    scaled = load_samples(tmp_path / "x.npy", graph, Options(scale=0.25))
    assert np.array_equal(quantize_inputs(graph, scaled.x)[0], x + 7)


def test_head_keeps_labels_and_drops_groups() -> None:
    x = (np.zeros((4, 2), np.float32),)
    assert Samples(x, np.arange(4)).head(2).y.tolist() == [0, 1]  # type: ignore[union-attr]
    grouped = Samples(x, np.arange(2), np.array([0, 0, 1, 1]))
    assert grouped.head(3).groups is None and grouped.head(3).count == 3 and grouped.head(9) is grouped


# ---- integer grids


@pytest.mark.parametrize(
    ("dtype", "options", "grid"),
    [
        ("uint8", Options(), Grid(1.0, -128)),
        ("uint8", Options(scale=1 / 255), Grid(1 / 255, -128)),
        ("uint8", Options(scale=0.5, offset=-64.0), Grid(0.5, 0)),
        ("uint8", Options(scale=1 / 127.5, offset=-1.0), None),
        ("int8", Options(), Grid(1.0, 0)),
        (
            "int8",
            Options(scale=0.5847029089927673, offset=-83 * 0.5847029089927673),
            Grid(0.5847029089927673, 83),
        ),
        ("int64", Options(), Grid(1.0, -128)),
        ("float32", Options(), Grid(1.0, -128)),
    ],
)
def test_eight_bit_samples_are_exact_in_int8(
    tmp_path: Path, dtype: str, options: Options, grid: Grid | None
) -> None:
    x = np.arange(12 * 20).reshape(20, 4, 3).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    samples = load_samples(tmp_path / "x.npy", one_input(), options)
    assert samples.grids == (grid,)
    if grid is not None:
        q = grid.qparams.quantize(samples.x[0])
        assert np.allclose(grid.qparams.dequantize(q), samples.x[0], rtol=1e-5, atol=1e-5)


def test_images_divided_by_255_lie_on_a_grid(tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(0, 256, (50, 4, 3)).astype(np.float32) / 255
    np.save(tmp_path / "x.npy", x)
    (grid,) = load_samples(tmp_path / "x.npy", one_input()).grids
    assert grid is not None and grid.zero_point == -128 and grid.scale == pytest.approx(1 / 255, rel=1e-4)


def test_other_floats_and_wide_integers_have_no_grid(tmp_path: Path) -> None:
    for x in (np.random.default_rng(1).normal(size=(50, 4, 3)), np.arange(600).reshape(50, 4, 3)):
        np.save(tmp_path / "x.npy", x)
        assert load_samples(tmp_path / "x.npy", one_input()).grids == (None,)


# ---- hooks

HOOK = """
import numpy as np
def halves(arrays): return arrays['x'] / 2
def labelled(arrays): return arrays['x'], arrays['y'] + 1, np.arange(len(arrays['x'])) // 2
def named(arrays): return {'right': arrays['x'], 'left': -arrays['x']}
def broken(arrays): raise ValueError('no such thing')
number = 3
"""


def hooked(folder: Path, function: str, graph: Graph, shape: tuple[int, ...] = (4, 4, 3)) -> Samples:
    """Samples of ones through a hook."""
    (folder / "prepare.py").write_text(HOOK)
    np.savez(folder / "s.npz", x=np.ones(shape, np.int16), y=np.arange(shape[0]))
    return load_samples(folder / "s.npz", graph, Options(preprocess=f"{folder}/prepare.py:{function}"))


def test_hook_from_a_file(tmp_path: Path) -> None:
    assert np.all(hooked(tmp_path, "halves", one_input()).x[0] == 0.5)
    samples = hooked(tmp_path, "labelled", one_input())
    assert samples.y.tolist() == [1, 2, 3, 4] and samples.groups.tolist() == [0, 0, 1, 1]  # type: ignore[union-attr]
    assert [x[0, 0] for x in hooked(tmp_path, "named", two_inputs(), (2, 3)).x] == [-1.0, 1.0]


def test_hook_from_a_module_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_hook_module.py").write_text(HOOK)
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "x.npy", np.ones((1, 4, 3)))
    assert np.all(load_samples("x.npy", one_input(), Options(preprocess="my_hook_module:halves")).x[0] == 0.5)


def test_errors_of_hooks_name_the_line(tmp_path: Path) -> None:
    text = message(lambda: hooked(tmp_path, "broken", one_input()))
    assert "ValueError: no such thing" in text and "prepare.py line 6" in text
    assert "halves" in message(lambda: hooked(tmp_path, "halfs", one_input()), UsageError)
    assert "no function 'number'" in message(lambda: hooked(tmp_path, "number", one_input()), UsageError)
    for spec in ("nothing", ":f", "a.py:", "absent_module_xyz:f", "absent.py:f"):
        message(
            lambda spec=spec: load_samples(tmp_path / "s.npz", one_input(), Options(preprocess=spec)),
            UsageError,
        )


# ---- what is refused


def test_wrong_shape_says_both(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((7, 3, 4)))
    text = message(lambda: load_samples(tmp_path / "x.npy", one_input()))
    assert "(7, 3, 4)" in text and "(N, 4, 3)" in text and "image" in text


def test_wrong_keys(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 4, 3)))
    assert "images" in message(lambda: load_samples(tmp_path / "a.npz", one_input()))
    np.savez(tmp_path / "b.npz", lefft=np.zeros((1, 3)), right=np.zeros((1, 3)))
    text = message(lambda: load_samples(tmp_path / "b.npz", two_inputs()))
    assert "no key 'left'" in text and "lefft" in text
    np.save(tmp_path / "c.npy", np.zeros((1, 3)))
    assert "left, right" in message(lambda: load_samples(tmp_path / "c.npy", two_inputs()))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_no_float32(tmp_path: Path, bad: float) -> None:
    x = np.zeros((5, 4, 3))
    x[3, 1, 1] = bad
    np.save(tmp_path / "x.npy", x)
    text = message(lambda: load_samples(tmp_path / "x.npy", one_input()))
    assert "NaN or infinite" in text and "sample 3" in text


@pytest.mark.parametrize(
    "array", [np.zeros((1, 4, 3), complex), np.full((1, 4, 3), "a"), np.zeros((1, 4, 3), "M8[s]")]
)
def test_values_that_are_no_numbers(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", array)
    assert "dtype" in message(lambda: load_samples(tmp_path / "x.npy", one_input()))


def test_empty_sets(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((0, 4, 3)))
    assert "no samples" in message(lambda: load_samples(tmp_path / "x.npy", one_input()))
    (tmp_path / "empty").mkdir()
    assert "no .npy files" in message(lambda: load_samples(tmp_path / "empty", one_input()))
    np.savez(tmp_path / "none.npz")
    assert "no arrays" in message(lambda: load_samples(tmp_path / "none.npz", one_input()))
    np.save(tmp_path / "scalar.npy", np.float32(3))
    message(lambda: load_samples(tmp_path / "scalar.npy", one_input()))


def test_missing_and_odd_files(tmp_path: Path) -> None:
    assert "does not exist" in message(lambda: load_samples(tmp_path / "absent.npz", one_input()))
    assert "regular file" in message(lambda: load_samples("/dev/zero", one_input()))
    for name, content in (
        ("empty", b""),
        ("text", b"hello"),
        ("pickle", b"\x80\x04K\x01."),
        ("zip", b"PK\x03\x04"),
    ):
        (tmp_path / name).write_bytes(content)
        message(lambda name=name: load_samples(tmp_path / name, one_input()))


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=np.array([print], dtype=object), allow_pickle=True)
    for name in ("x.npy", "x.npz"):
        assert "pickled" in message(lambda name=name: load_samples(tmp_path / name, one_input()))


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_truncated_or_flipped_files_are_errors_or_numbers(tmp_path: Path, name: str) -> None:
    save = np.save if name.endswith("y") else np.savez_compressed
    x = np.random.default_rng(0).integers(0, 255, (20, 4, 3))
    save(tmp_path / name, **({"arr": x} if name.endswith("y") else {"x": x, "y": np.arange(20)}))
    content = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(5)
    for trial in range(120):
        damaged = bytearray(content[: rng.integers(0, len(content))] if trial % 2 else content)
        for _ in range(trial % 5):
            if damaged:
                damaged[rng.integers(0, min(len(damaged), 400))] ^= 1 << rng.integers(0, 8)
        (tmp_path / name).write_bytes(bytes(damaged))
        try:
            assert load_samples(tmp_path / name, one_input()).count == 20
        except DataError as error:
            assert len(str(error).splitlines()) <= 5


def bomb(shape: tuple[int, ...]) -> bytes:
    """A .npy header that announces `shape` doubles, without them."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def test_announced_sizes_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    start = time.perf_counter()
    for shape in ((10**9, 4, 3), (10**30, 4, 3), (-5, 4, 3)):
        (tmp_path / "x.npy").write_bytes(bomb(shape))
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("x.npy", bomb(shape))
        for name in ("x.npy", "x.npz"):
            message(lambda name=name: load_samples(tmp_path / name, one_input()))
    assert time.perf_counter() - start < 5


def test_small_file_that_unpacks_to_much(tmp_path: Path) -> None:
    content = io.BytesIO()
    content.write(bomb((MAX_BYTES // 96 + 1, 4, 3)))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content.getvalue() + bytes(1000))
    assert "at most" in message(lambda: load_samples(tmp_path / "x.npz", one_input()))


def test_labels_must_fit_the_samples(tmp_path: Path) -> None:
    for y in (np.arange(3), np.array(["a"] * 4), np.array([0, 1, np.nan, 2]), np.float64(3)):
        np.savez(tmp_path / "s.npz", x=np.zeros((4, 4, 3)), y=y)
        assert "'y'" in message(lambda: load_samples(tmp_path / "s.npz", one_input()))


def test_inputs_need_equal_counts(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", left=np.zeros((2, 3)), right=np.zeros((3, 3)))
    text = message(lambda: load_samples(tmp_path / "s.npz", two_inputs()))
    assert "'left' 2" in text and "'right' 3" in text


def test_options_are_checked() -> None:
    for options in ({"scale": 0.0}, {"scale": -1.0}, {"scale": float("nan")}, {"offset": float("inf")}):
        message(lambda options=options: Options(**options), UsageError)
    message(lambda: Options(scale=1.0, preprocess="a:b"), UsageError)


def test_hook_of_the_documentation(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "samples.md").read_text()
    (tmp_path / "prepare.py").write_text(page.split("```python\n")[1].split("```")[0])
    x = np.arange(2 * 7 * 3, dtype=np.int16).reshape(2, 7, 3)
    np.savez(tmp_path / "s.npz", x=x, y=np.array([0, 1]), scale=np.float32(0.5), id=np.array(["a", "b"]))
    samples = load_samples(
        tmp_path / "s.npz", one_input((15,)), Options(preprocess=f"{tmp_path}/prepare.py:windows")
    )
    assert samples.groups.tolist() == [0, 0, 0, 1, 1, 1] and samples.y.tolist() == [0, 1]  # type: ignore[union-attr]
    assert np.array_equal(samples.x[0][4], 0.5 * x[1, 1:6].reshape(-1))
