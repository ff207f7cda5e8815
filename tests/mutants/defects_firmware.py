"""Planted defects in the firmware's surroundings: boards, startup, harness, emulators, the judge."""

from tests.mutants.runner import Defect

PORT = "templates/firmware/tg_port.c.j2"
FAILURES = "tests/test_firmware_failures.py"
JUDGE = "tests/test_judge.py"
SERIAL = "tests/test_serial.py"
ON_UNICORN = "[unicorn-mps2_an386]"

FIRMWARE: tuple[Defect, ...] = (
    # ---- startup, harness, linker script
    Defect(
        "startup: the first word of .data is not copied",
        PORT,
        "for (uint32_t i = 0; i < words; ++i) {",
        "for (uint32_t i = 1; i < words; ++i) {",
        f"{FAILURES}::test_data_is_initialised_and_zeroed{ON_UNICORN}",
    ),
    Defect(
        "startup: the last word of .bss is not zeroed",
        PORT,
        "for (uint32_t i = 0; i < zero_words; ++i) {",
        "for (uint32_t i = 0; i + 1U < zero_words; ++i) {",
        f"{FAILURES}::test_data_is_initialised_and_zeroed{ON_UNICORN}",
    ),
    Defect(
        "stack: what is unused is reported as used",
        PORT,
        "return size - unused;",
        "return unused;",
        f"{FAILURES}::test_deep_but_allowed_stack_is_measured{ON_UNICORN}",
    ),
    Defect(
        "stack: not guarded below SRAM",
        PORT,
        "TG_REGISTER(0xE000ED94U) = 5U;",
        "TG_REGISTER(0xE000ED94U) = 4U;",
        f"{FAILURES}::test_guard_below_sram_is_the_memory_protection_units[qemu-mps2_an386]",
    ),
    Defect(
        "stack: its limit register is not set",
        "templates/firmware/tg_startup.S.j2",
        "msr psplim, r0",
        "nop",
        f"{FAILURES}::test_guard_below_sram_is_the_stack_limit[qemu-mps2_an505]",
    ),
    Defect(
        "startup: the floating-point unit stays off",
        "templates/firmware/tg_startup.S.j2",
        "ldr r2, =0x00F00000",
        "ldr r2, =0x00000000",
        f"{FAILURES}::test_floating_point_is_on_where_the_core_has_it[qemu-mps2_an386]",
    ),
    Defect(
        "fault handler: silent",
        PORT,
        "    console_init();\n    tg_put_text(",
        "    for (;;) {\n    }\n    tg_put_text(",
        f"{FAILURES}::test_undefined_instruction_is_a_fault[qemu-mps2_an386]",
    ),
    Defect(
        "linker script: no ASSERT on SRAM",
        "templates/firmware/board.ld.j2",
        "ASSERT(__tg_input_end <= __{{ placement.inputs }}_limit,",
        "ASSERT(1,",
        f"{FAILURES}::test_inputs_that_do_not_fit_fail_to_link",
    ),
    Defect(
        "linker script: the application's reserve is given away",
        "templates/firmware/board.ld.j2",
        '{{ " - %d" % board.reserved.application if region.name == data.name }};',
        ";",
        f"{FAILURES}::test_application_reserve_is_kept_free",
    ),
    Defect(
        "harness: inputs are not padded to words",
        "templates/firmware/tg_harness.c",
        "data += padded(model->input_sizes[i]) / 4U;",
        "data += model->input_sizes[i] / 8U;",
        f"{FAILURES}::test_healthy_firmware_passes{ON_UNICORN}",
    ),
    Defect(
        "harness: a record that names no model is run",
        "templates/firmware/tg_harness.c",
        "if (end - at < 2 || at[0] >= model_count) {",
        "if (end - at < 2) {",
        f"{FAILURES}::test_bad_input_block",
    ),
    Defect(
        "serial: damaged frames are taken",
        "templates/firmware/tg_harness.c",
        "if (crc != TG_CRC_RESIDUE || offset != to) {",
        "if (offset != to) {",
        f"{SERIAL}::test_damaged_inputs_are_sent_again",
    ),
    Defect(
        "serial: frames that were not asked for are taken",
        "templates/firmware/tg_harness.c",
        "if (crc != TG_CRC_RESIDUE || offset != to) {",
        "if (crc != TG_CRC_RESIDUE) {",
        f"{SERIAL}::test_a_lost_answer_is_asked_for_again",
    ),
    Defect(
        "serial: a reset runs the old inputs again",
        "templates/firmware/tg_harness.c",
        "        block[0] = 0U;\n",
        "",
        f"{SERIAL}::test_a_filled_block_runs_once_and_is_not_run_again",
    ),
    Defect(
        "serial: the board of another image gets the inputs",
        "tinygen/emulators/serial_.py",
        "if run_id != firmware.description.run_id:",
        "if not run_id:",
        f"{SERIAL}::test_a_flashed_image_of_another_project_is_stale",
    ),
    Defect(
        "serial: what is lost is not sent again",
        "tinygen/emulators/serial_.py",
        "                self._line.write(FILLER)\n",
        "                pass\n",
        f"{SERIAL}::test_damaged_inputs_are_sent_again",
    ),
    # ---- building, running
    Defect(
        "building: changed sources are not noticed",
        "tinygen/building.py",
        'digest.update(f"\\0{path.relative_to(project)}\\0".encode() + path.read_bytes())',
        'digest.update(f"\\0{path.relative_to(project)}\\0".encode())',
        f"{FAILURES}::test_changed_sources_are_built_again",
    ),
    Defect(
        "running: the header of the input block is not counted",
        "tinygen/running.py",
        "first, used = i, HEADER_BYTES",
        "first, used = i, 0",
        "tests/test_emulators.py::test_chunks_cover_all_records_within_the_capacity",
    ),
    Defect(
        "running: records fill more than the input block holds",
        "tinygen/running.py",
        "if used + len(record) > capacity and i > first:",
        "if used > capacity and i > first:",
        f"{FAILURES}::test_input_block_takes_what_is_left",
    ),
    Defect(
        "QEMU: ticks of the core's clock instead of the timer's",
        "tinygen/emulators/qemu.py",
        "Fraction(board.timer.clock_hz * 2**shift, 10**9)",
        "Fraction(board.clock_hz * 2**shift, 10**9)",
        "tests/test_emulators.py::test_clock_of_qemu_resolves_single_instructions",
    ),
    Defect(
        "QEMU: the ratio of ticks to instructions upside down",
        "tinygen/emulators/qemu.py",
        "ratio = 1 / ticks_per_instruction(board)",
        "ratio = ticks_per_instruction(board)",
        "tests/test_emulators.py::test_kernels_are_exact_and_counts_are_equal[mps2_an386]",
    ),
    Defect(
        "Unicorn: flash can be written",
        "tinygen/emulators/unicorn_machine.py",
        "uc.UC_PROT_READ | (uc.UC_PROT_WRITE if region.writable else 0)",
        "uc.UC_PROT_READ | uc.UC_PROT_WRITE",
        f"{FAILURES}::test_write_to_code_is_a_fault_where_memory_is_modelled{ON_UNICORN}",
    ),
    Defect(
        "Unicorn: .data is loaded where it shall be copied to",
        "tinygen/building.py",
        '(s["p_paddr"], s.data())',
        '(s["p_vaddr"], s.data())',
        f"{FAILURES}::test_data_is_initialised_and_zeroed{ON_UNICORN}",
    ),
    Defect(
        "Unicorn: long instructions count twice",
        "tinygen/emulators/thumb.py",
        "at += 2 if halfwords[at] >= 0xE800 else 1",
        "at += 1",
        "tests/test_emulators.py::test_thumb_instructions_are_counted",
    ),
    # ---- boards
    Defect(
        "boards: unknown keys in tables are accepted",
        "tinygen/tomlfile.py",
        "if key not in self.asked:",
        "if key not in self.asked and not self.name:",
        "tests/test_boards.py::test_wrong_description_is_refused_with_file_and_line",
    ),
    Defect(
        "boards: regions may overlap",
        "tinygen/board_schema.py",
        "if region.origin < other.end and other.origin < region.end:",
        "if region.origin == other.origin:",
        "tests/test_boards.py::test_wrong_description_is_refused_with_file_and_line",
    ),
    Defect(
        "boards: memory right below the stack is accepted",
        "tinygen/firmware.py",
        "if r.origin < board.ram.origin and r.end > low]",
        "if r.origin < board.ram.origin and r.end > board.ram.origin]",
        "tests/test_boards.py::test_memory_below_the_stack_leaves_no_room_for_its_guard",
    ),
    # ---- the judge
    Defect(
        "judge: run_id is not compared (stale images pass)",
        "tinygen/judge.py",
        "if seen != run_id and not run_id.startswith(seen):",
        "if not seen:",
        f"{JUDGE}::test_stale_image",
    ),
    Defect(
        "judge: only the first output is compared",
        "tinygen/judge.py",
        "for i, expected in enumerate(want.expected or ()):",
        "for i, expected in enumerate((want.expected or ())[:1]):",
        f"{JUDGE}::test_one_wrong_element_is_named",
    ),
    Defect(
        "judge: missing samples are ignored",
        "tinygen/judge.py",
        "missing = next((w for w in wanted if not _whole(log, models, w)), None)",
        "missing = None",
        f"{JUDGE}::test_every_line_that_is_missing_is_noticed",
    ),
    Defect(
        "judge: a log without its END passes",
        "tinygen/judge.py",
        "elif log.end != len(wanted):",
        "elif log.end is not None and log.end != len(wanted):",
        f"{JUDGE}::test_a_log_cut_anywhere_is_incomplete",
    ),
    Defect(
        "judge: a log that repeats itself passes",
        "tinygen/judge.py",
        "elif log.repeated:",
        "elif len(log.repeated) > 99:",
        f"{JUDGE}::test_repeated_lines_are_not_one_run",
    ),
    Defect(
        "judge: a stack used up to its last word passes",
        "tinygen/judge.py",
        "log.stack[0] >= log.stack[1]:",
        "log.stack[0] > log.stack[1]:",
        f"{JUDGE}::test_stack_used_up",
    ),
    Defect(
        "judge: of several chunks only the last one decides",
        "tinygen/judge.py",
        "next((r for r in results if not r.passed), results[-1])",
        "results[-1]",
        f"{JUDGE}::test_first_failing_chunk_decides",
    ),
)
