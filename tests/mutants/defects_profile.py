"""Planted defects in the timestamps of layers: library, harness, log, and what is made of them."""

from tests.mutants.runner import Defect

TESTS = "tests/test_device_profile.py"

PROFILE: tuple[Defect, ...] = (
    Defect(
        "profile C: the stamp before the first layer is overwritten",
        "templates/library/model.c.j2",
        "    *++stamp = ticks();",
        "    *stamp++ = ticks();",
        f"{TESTS}::test_ring_keeps_the_last_inferences_and_differences_wrap",
    ),
    Defect(
        "profile C: the oldest inference is given for the last one",
        "templates/library/profile.c.j2",
        ".runs - 1U - (uint32_t)age;",
        ".runs - (uint32_t)age;",
        f"{TESTS}::test_ring_keeps_the_last_inferences_and_differences_wrap",
    ),
    Defect(
        "profile: the harness prints one line of layers only",
        "templates/firmware/layer_ticks.c",
        "first < model->profile_steps; first +=",
        "first < 1U; first +=",
        f"{TESTS}::test_layers_sum_up_and_emulators_agree[mps2_an386]",
    ),
    Defect(
        "profile: Unicorn's timer stands still inside a sample",
        "tinygen/emulators/unicorn_machine.py",
        "return (self._hook.so_far() - self._begun) & 0xFFFFFFFF",
        "return self._timer",
        f"{TESTS}::test_layers_sum_up_and_emulators_agree[mps2_an386]",
    ),
    Defect(
        "unicorn: a mark across the end of a page counts its second half before it begins",
        "tinygen/emulators/unicorn_machine.py",
        "self._begun = self._hook.so_far()",
        "self._begun = 0",
        "tests/cycles/test_tracing.py::test_instructions_are_those_that_emulators_count[mps2_an386]",
    ),
    Defect(
        "profile: ticks of some layers pass for those of all",
        "tinygen/runlog.py",
        "return found if len(found) == count else None",
        "return found or None",
        f"{TESTS}::test_damaged_lines_cost_that_samples_ticks_and_nothing_else",
    ),
    Defect(
        "profile: the ring takes no memory",
        "tinygen/firmware.py",
        "variables=sum(library.variable_bytes for library in libraries),",
        "variables=0,",
        f"{TESTS}::test_ring_counts_as_memory",
    ),
    Defect(
        "profile: a project without timestamps names the option",
        "tinygen/bundle.py",
        "if not options.profile_on_device:",
        "if options.profile_on_device is None:",
        f"{TESTS}::test_every_home_records_the_option_and_holds_the_ring",
    ),
)
