"""The generated C library: identical text for identical input, an API to rely on, clean under every checker."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.graphs import int8_graph
from tests.support.host import WARNINGS, HostLibrary, library_of, run_on_host, write_files
from tests.support.nodes import random_inputs
from tinygen import evaluate
from tinygen.ctext import c_comment, c_float, c_int, c_string, check_prefix, suggest_prefix
from tinygen.emission import Library, emit_library
from tinygen.errors import UsageError
from tinygen.graph import GraphBuilder, QParams
from tinygen.ops import concat, crop, dense
from tinygen.planning import plan
from tinygen.program import select
from tinygen.quantization import to_int8


def emitted(name: str = "small", **options: object) -> Library:
    program = select(int8_graph(), None)
    return emit_library(program, plan(program), name, **options)  # type: ignore[arg-type]


def compiled(
    tmp_path: Path, library: Library, main: str, flags: Sequence[str] = (), compiler: str = "gcc"
) -> str:
    """Build the library with a main function, run it, return what it prints."""
    sources = [str(p) for p in write_files(library, tmp_path)]
    suffix = ".cpp" if compiler == "g++" else ".c"
    (tmp_path / f"main{suffix}").write_text(main)
    include = f"-I{tmp_path}/lib/{library.name}"
    objects = []
    for source in sources:
        objects.append(f"{source}.o")
        subprocess.run(["gcc", *WARNINGS, *flags, include, "-c", source, "-o", objects[-1]], check=True)
    target = tmp_path / "main"
    command = [
        compiler,
        "-Wall",
        "-Wextra",
        "-Werror",
        *flags,
        include,
        str(tmp_path / f"main{suffix}"),
        *objects,
    ]
    subprocess.run([*command, "-o", str(target)], check=True)
    return subprocess.run([str(target)], check=True, capture_output=True, text=True).stdout


def test_same_input_gives_identical_text() -> None:
    assert emitted().files == emitted().files


def test_layer_names_stand_in_the_code() -> None:
    text = "".join(emitted().files.values())
    for name in ("stem", "body", "join", "head", "scores", "small_stem_weights", "'image'"):
        assert name in text


def test_no_float_malloc_or_recursion_in_the_kernels() -> None:
    source = emitted().files["lib/small/small.c"]
    for word in ("float", "double", "malloc", "free(", "printf", "goto"):
        assert word not in source, word


def test_two_models_in_one_image_do_not_clash() -> None:
    first, second = library_of(int8_graph(0), "first"), library_of(int8_graph(1, 5), "second")
    image = HostLibrary([first, second], ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all"))
    for library, graph in ((first, int8_graph(0)), (second, int8_graph(1, 5))):
        inputs = random_inputs(graph, 6, seed=1)
        (want,) = evaluate.reference(graph, inputs)
        (got,) = image.run(library, inputs)
        np.testing.assert_array_equal(got, want)


def test_inputs_and_outputs_are_where_the_plan_puts_them() -> None:
    """Two inputs and two outputs of different sizes."""
    builder, q = GraphBuilder("pairs"), QParams.per_tensor(0.1, 3)
    a, b = builder.input("a", (7,), q), builder.input("b", (3,), q)
    joined = builder.add("concat", "joined", (b, a), concat.Attrs(0), q)
    cut = builder.add("crop", "cut", (joined,), crop.Attrs(((2, 3),)), q)
    graph = builder.build((cut, joined))
    inputs = random_inputs(graph, 4, seed=2)
    for got, want in zip(run_on_host(graph, inputs), evaluate.reference(graph, inputs), strict=True):
        np.testing.assert_array_equal(got, want)


def test_layers_whose_names_are_alike_in_c() -> None:
    """Each dense layer has constants of its own, whose symbols must differ."""
    builder, q = GraphBuilder("alike"), QParams.per_tensor(0.1, 3)
    tensor = builder.input("x", (3,))
    for i, name in enumerate(("a/b", "a_b", "a.b")):
        weights = builder.constant(f"{i}/w", np.random.default_rng(i).normal(size=(3, 3)))
        bias = builder.constant(f"{i}/b", np.ones(3))
        tensor = builder.add("dense", name, (tensor, weights, bias), dense.Attrs())
    graph = builder.build((tensor,))
    graph = to_int8(graph, dict.fromkeys(("x", "a/b", "a_b", "a.b"), q))
    inputs = random_inputs(graph, 4, seed=2)
    np.testing.assert_array_equal(run_on_host(graph, inputs)[0], evaluate.reference(graph, inputs)[0])


STATUS_MAIN = """
#include "small.h"
#include <stdio.h>
int main(void)
{
    static int32_t arena[SMALL_ARENA_BYTES / 4U + 1U];
    printf("%d %d %d %d", small_invoke(NULL, 0), small_invoke((char *)arena + 1, sizeof arena),
        small_invoke(arena, SMALL_ARENA_BYTES - 1U), small_invoke(arena, SMALL_ARENA_BYTES));
    printf(" %d %d", small_input(arena, 1) == NULL, small_output(arena, SMALL_OUTPUT_COUNT) == NULL);
    return 0;
}
"""


def test_status_of_every_misuse(tmp_path: Path) -> None:
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
    assert compiled(tmp_path, emitted(), STATUS_MAIN, flags) == "1 2 3 0 1 1"


HELPERS_MAIN = """
#include "small.h"
#include <stdio.h>
int main(void)
{
    const float nan = 0.0f / (float)SMALL_CLASS_COUNT * 0.0f;
    printf("%d %d %d %d ", small_quantize(1.25f, 0.5f, 10), small_quantize(-1.25f, 0.5f, 10),
        small_quantize(1e30f, 0.5f, 0), small_quantize(-1e30f, 0.5f, 0));
    printf("%d %g %d %d ", small_quantize(nan, 1.0f, 0), (double)small_dequantize(4, 0.5f, 10), small_from_uint8(0),
        small_from_uint8(255));
    printf("%s %s", small_labels[0], small_labels[2]);
    float sample[SMALL_INPUT_0_SIZE] = {0};
    small_set_input_0(small_arena(), sample);
    printf(" %d", small_input(small_arena(), 0)[7] == SMALL_INPUT_0_ZERO_POINT);
    printf(" %d", small_invoke(small_arena(), SMALL_ARENA_BYTES));
    return 0;
}
"""


@pytest.mark.parametrize("compiler", ["gcc", "g++"])
def test_helpers_labels_and_own_arena(tmp_path: Path, compiler: str) -> None:
    """Also from C++: the header compiles as such."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    library = emitted(arena="library", labels=("left", 'say "?\\', "right"))
    text = compiled(tmp_path, library, HELPERS_MAIN, compiler=compiler)
    assert text == "13 7 127 -128 0 -3 -128 127 left right 1 0"


def test_classes_are_counted_without_labels_and_checked_with_them() -> None:
    assert "#define SMALL_CLASS_COUNT 3U" in emitted().files["lib/small/small.h"]
    with pytest.raises(UsageError, match="--labels names 2 classes, output 'scores' has 3 elements"):
        emitted(labels=("left", "right"))


def test_cppcheck_is_clean(tmp_path: Path) -> None:
    if shutil.which("cppcheck") is None:
        pytest.skip("cppcheck is not installed")
    write_files(emitted(), tmp_path)
    checks = ["--enable=warning,performance,portability", "--inline-suppr", "--error-exitcode=1", "--quiet"]
    done = subprocess.run(["cppcheck", *checks, "--std=c99", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["9lives", "Kws", "kws-net", "int", "tg_x", "", "a" * 33, "main", "string"])
def test_prefixes_that_c_cannot_take(name: str) -> None:
    with pytest.raises(UsageError, match="cannot prefix C identifiers"):
        check_prefix(name)


@given(st.text(max_size=60))
def test_every_file_name_suggests_a_valid_prefix(text: str) -> None:
    check_prefix(suggest_prefix(text))


@given(st.text("*/\\\na") | st.text())
def test_comments_cannot_be_ended_from_outside(text: str) -> None:
    safe = c_comment(text)
    assert "*/" not in safe and "/*" not in safe and "\n" not in safe and "\\" not in safe


def test_literals() -> None:
    assert c_int(-(2**31)) == "(-2147483647 - 1)" and c_int(-5) == "-5"
    assert c_float(0.1) == "0.1f" and c_float(1.0) == "1.0f" and c_float(1e-30) == "1e-30f"
    assert c_string('a"b\\c?\n') == '"a\\042b\\134c\\077\\012"'
    assert np.float32(c_float(float(np.float32(1 / 3)))[:-1]) == np.float32(1 / 3)
