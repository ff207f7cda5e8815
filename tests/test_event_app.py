"""The event-driven example: an interrupt fills samples while the model computes, the core sleeps in between.

It runs in QEMU with SysTick for a sensor, in virtual time (-icount), so that every run is the same. What the sensor
brought is computed here again, and every inference is held to the reference in every element.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.support.graphs import int8_graph
from tinygen import api, building, evaluate, pipeline
from tinygen.boards import load_board
from tinygen.emission import pair_offset
from tinygen.errors import BoardError, UsageError
from tinygen.graph import Array, Graph, GraphBuilder
from tinygen.homes import NO_SYSTICK
from tinygen.ops import add, conv2d
from tinygen.ops.windows import Padding
from tinygen.tflite.export import export_tflite

pytestmark = [pytest.mark.arm, pytest.mark.qemu]

BOARDS = ("mps2_an385", "mps2_an386", "mps2_an500", "mps2_an505", "mps3_an547")
SAMPLES = 24
LINE = re.compile(r"net sample (\d+), lost (\d+), wake-ups (\d+):((?: -?\d+)+)\n")


@dataclass(frozen=True)
class Inference:
    """One line of the application's."""

    sample: int
    lost: int
    wake_ups: int
    outputs: Array


def open_graph(inputs: int = 1) -> Graph:
    """int8 (6, 5, 2) -> two convolutions and a sum, all 60 elements given out: a wrong input element shows.

    inputs 2: another one of that shape is added first, and the first convolution is given out, too.
    """
    from tinygen.calibration import calibrate
    from tinygen.quantization import quantize
    from tinygen.samples import Samples
    from tinygen.simplification import simplify

    rng = np.random.default_rng(5)
    builder = GraphBuilder("open net")
    x = builder.input("image", (6, 5, 2))
    if inputs == 2:
        x = builder.add("add", "both", (x, builder.input("other", (6, 5, 2))), add.Attrs())
    same = conv2d.Attrs(padding=Padding(1, 1, 1, 1))

    def convolution(name: str, tensor: str) -> str:
        weights = builder.constant(f"{name}/w", rng.normal(size=(2, 3, 3, 2)).astype(np.float32) / 4)
        return builder.add(
            "conv2d", name, (tensor, weights, builder.constant(f"{name}/b", np.zeros(2, np.float32))), same
        )

    first = convolution("first", x)
    joined = builder.add("add", "join", (x, convolution("second", first)), add.Attrs())
    graph = builder.build((joined,) if inputs == 1 else (joined, first))
    x_of = tuple(rng.normal(size=(40, 6, 5, 2)).astype(np.float32) for _ in range(inputs))
    samples = Samples(x_of, grids=(None,) * inputs)
    return simplify(quantize(graph, calibrate(graph, samples)).graph)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("event") / "net.tflite"
    path.write_bytes(export_tflite(open_graph()))
    return path


@pytest.fixture(scope="module")
def project(model: Path) -> Path:
    api.compile(model, board=BOARDS, app="event", out=model.parent / "fw")
    return model.parent / "fw"


def changed(project: Path, folder: Path, **changes: str) -> Path:
    """A copy of the project whose application has other text for these #defines, or other text instead of some."""
    building_copy = folder / "fw"
    subprocess.run(["cp", "-r", str(project), str(building_copy)], check=True)
    main = building_copy / "src" / "main.c"
    text = main.read_text()
    for name, value in changes.items():
        text, count = re.subn(rf"(#define {name}) .*", rf"\1 {value}", text)
        assert count == 1, name
    main.write_text(text)
    return building_copy


def replaced(project: Path, old: str, new: str) -> None:
    main = project / "src" / "main.c"
    assert old in main.read_text()
    main.write_text(main.read_text().replace(old, new))


def run(project: Path, name: str = "mps2_an386", count: int = SAMPLES) -> list[Inference]:
    """The first inferences of the application in QEMU, every instruction 64 ns of virtual time."""
    board = load_board(name)
    assert board.qemu is not None
    elf = building.build(project, board, application=True).elf
    command = [
        *("qemu-system-arm", "-machine", board.qemu.machine, *board.qemu.options, "-kernel", str(elf)),
        *("-icount", "shift=6,sleep=off", "-display", "none", "-monitor", "none", "-serial", "stdio"),
    ]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = []
    try:
        for text in process.stdout:
            line = LINE.fullmatch(text)
            assert line, text
            outputs = np.array(line[4].split(), np.int32).astype(np.int8)
            found.append(Inference(int(line[1]), int(line[2]), int(line[3]), outputs))
            if len(found) == count:
                break
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert len(found) == count
    return found


def stream(graph: Graph, samples: int) -> Array:
    """What the sensor brings: (samples, 6, 5, 2), by the application's definition of it."""
    size = sum(t.elements for t in graph.input_tensors)
    mixed = np.arange(samples * size, dtype=np.uint32) * np.uint32(2654435761)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2246822519)
    values = ((mixed >> np.uint32(24)).astype(np.int32) - 128).astype(np.int8)
    return values.reshape(samples, *graph.input_tensors[0].shape)


def references(samples: int) -> Array:
    """(samples, 60) outputs of the first samples of the stream, by the reference."""
    graph = open_graph()
    (outputs,) = evaluate.reference(graph, (stream(graph, samples),))
    return outputs.reshape(samples, -1)


@pytest.mark.parametrize("name", BOARDS)
def test_every_inference_used_its_own_sample_bit_for_bit_and_none_was_lost(project: Path, name: str) -> None:
    found = run(project, name)
    assert [i.sample for i in found] == list(range(SAMPLES))
    assert {i.lost for i in found} == {0}
    assert np.array_equal(np.stack([i.outputs for i in found]), references(SAMPLES))


def test_a_model_with_two_inputs_and_outputs(tmp_path: Path) -> None:
    """The stream goes on from input to input; the pair keeps both apart."""
    graph = open_graph(2)
    (tmp_path / "net.tflite").write_bytes(export_tflite(graph))
    api.compile(tmp_path / "net.tflite", app="event", out=tmp_path / "fw")
    found = run(tmp_path / "fw", count=8)
    both = stream(open_graph(), 16).reshape(8, 2, 6, 5, 2)
    outputs = evaluate.reference(graph, (both[:, 0], both[:, 1]))
    expected = np.concatenate([o.reshape(8, -1) for o in outputs], axis=1)
    assert {i.lost for i in found} == {0} and np.array_equal(np.stack([i.outputs for i in found]), expected)


def test_references_of_different_samples_differ_in_most_elements() -> None:
    """The control: an inference on another sample would be seen."""
    outputs = references(SAMPLES)
    same = [(outputs[i] == outputs[j]).mean() for i in range(SAMPLES) for j in range(i)]
    assert max(same) < 0.3


def test_the_core_sleeps_between_interrupts(project: Path, tmp_path: Path) -> None:
    """Every return from WFI is one interrupt: at most as many as bursts came."""
    main = (project / "src" / "main.c").read_text()
    burst = int(re.findall(r"#define BURST (\d+)U", main)[0])
    found = run(project)
    bursts = 60 * SAMPLES / burst
    assert bursts / 2 < found[-1].wake_ups <= bursts + 2
    awake = changed(project, tmp_path)
    replaced(awake, "dsb\\n\\twfi", "dsb\\n\\tnop")
    assert run(awake)[-1].wake_ups > 100 * bursts, "the control: without WFI it goes round and round"


CMSDK_TIMER = """
    *(volatile uint32_t *)0x40001008U = TICK_CYCLES - 1U; /* TIMER1 RELOAD, VALUE, CTRL: interrupt, on */
    *(volatile uint32_t *)0x40001004U = TICK_CYCLES - 1U;
    *(volatile uint32_t *)0x40001000U = 9U;
    *(volatile uint32_t *)0xE000E100U = 1U << 9; /* NVIC_ISER0 */
"""


def test_an_interrupt_of_the_chips_replaces_systick(project: Path, tmp_path: Path) -> None:
    """The application as its user changes it: timer 1 of the AN386 (interrupt 9) is the sensor."""
    chip = changed(project, tmp_path)
    replaced(chip, "void tg_systick(void)", "void tg_irq_9(void)")
    replaced(
        chip, "(void)\n{\n    static uint32_t input,", "(void)\n{\n    CLEAR;\n    static uint32_t input,"
    )
    replaced(chip, "#define BURST", "#define CLEAR *(volatile uint32_t *)0x4000100CU = 1U\n#define BURST")
    replaced(chip, "    SYST_CSR = 7U; /* core clock, interrupt, on */\n", CMSDK_TIMER)
    found = run(chip)
    assert found[-1].lost == 0 and found[-1].wake_ups > 30
    assert np.array_equal(np.stack([i.outputs for i in found]), references(SAMPLES))


def test_samples_come_in_while_the_model_computes(project: Path, tmp_path: Path) -> None:
    """The sensor so fast that a sample just takes an inference: half of all bursts and more interrupt the model."""
    busy = changed(project, tmp_path, TICK_CYCLES="20000U")
    found = run(busy)
    assert found[-1].lost == 0 and found[-1].wake_ups < 0.75 * 8 * SAMPLES
    assert np.array_equal(np.stack([i.outputs for i in found]), references(SAMPLES))


def test_samples_that_come_too_fast_are_dropped_whole_and_counted(project: Path, tmp_path: Path) -> None:
    fast = changed(project, tmp_path, TICK_CYCLES="2000U")
    found = run(fast)
    assert found[-1].lost > 10
    expected = references(1000)
    used = [next(n for n in range(1000) if np.array_equal(expected[n], i.outputs)) for i in found]
    assert used == sorted(set(used)), "every one is a whole sample of the stream, in its order"
    skipped = [n - i for i, n in enumerate(used)]
    assert all(s <= i.lost for s, i in zip(skipped, found, strict=True))
    assert skipped[-1] > 10


def test_buffers_that_overlap_are_seen(project: Path, tmp_path: Path) -> None:
    """The control of the pair's offset: eight bytes less, and samples are damaged."""
    near = changed(project, tmp_path, TICK_CYCLES="20000U")
    replaced(near, "NET_PAIR_OFFSET : 0U", "NET_PAIR_OFFSET - 8U : 0U")
    outputs = np.stack([i.outputs for i in run(near)])
    assert not np.array_equal(outputs, references(SAMPLES))


@pytest.mark.parametrize("seed", range(4))
def test_a_run_in_one_arena_of_a_pair_leaves_the_inputs_of_the_other_alone(seed: int) -> None:
    """By its arithmetic, for graphs of several shapes: inputs of one lie outside the other, both ways."""
    compiled = pipeline.lower(int8_graph(seed, 2 + 3 * seed), None, pipeline.Options(name="net"))
    plan, graph = compiled.plan, compiled.graph
    offset = pair_offset(graph, plan)
    assert (
        offset % 8 == 0
        and compiled.library.pair_bytes == offset + plan.arena_bytes <= 2 * plan.arena_bytes + 7
    )
    for tensor in graph.input_tensors:
        low = plan.offset(tensor.name)
        assert low + tensor.elements <= offset, "the first one's inputs end before the second arena"
        assert offset + low >= plan.arena_bytes, "the second one's inputs begin behind the first arena"


def test_placement_makes_room_for_both_arenas(model: Path) -> None:
    """A budget that holds one arena but not two is refused, with the size of two."""
    plain = api.compile(model, board="nucleo_f446re")
    pair = plain.compiled.library.pair_bytes
    from tinygen.placement import fixed_bytes

    budget = fixed_bytes(load_board("nucleo_f446re")) + pair - 1
    api.compile(model, board="nucleo_f446re", budget_sram=budget)
    with pytest.raises(BoardError, match=f"arena {pair:,}"):
        api.compile(model, board="nucleo_f446re", budget_sram=budget, app="event")


def test_the_link_fails_with_the_size_of_both_arenas(project: Path, tmp_path: Path) -> None:
    small = changed(project, tmp_path)
    script = small / "ldscripts" / "mps2_an386.ld"
    script.write_text(re.sub(r"(ssram23 .*LENGTH = )\d+", r"\g<1>4640", script.read_text()))
    pair = re.findall(r"PAIR_OFFSET (\d+)U|ARENA_BYTES (\d+)U", (small / "lib/net/net.h").read_text())
    size = sum(int(a or b) for a, b in pair)
    with pytest.raises(BoardError, match=rf"the arena \({size} bytes\) does not fit region 'ssram23'"):
        building.build(small, load_board("mps2_an386"), application=True)


def test_what_the_example_cannot_do_is_refused(model: Path) -> None:
    with pytest.raises(
        UsageError, match="an Arduino library has not\n  use it with --project platformio or bare"
    ):
        api.compile(model, project="arduino", app="event")
    with pytest.raises(UsageError, match="two arenas of its own"):
        api.compile(model, arena="library", app="event")
    with pytest.raises(BoardError, match="the core of 'microbit' has none"):
        api.compile(model, board="microbit", app="event")
    assert load_board("microbit").timer.kind in NO_SYSTICK
    with pytest.raises(UsageError, match="no example application 'other'\n  known: plain, event"):
        api.compile(model, app="other")
