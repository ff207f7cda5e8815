"""The cycle model: what an exact trace of instructions and accesses costs on a core and its memories.

instructions.py decodes, cores.py holds the timing tables, pipeline.py weighs sequences, memory.h models memories,
tracer.c follows a run in Unicorn, tracing.py drives it. docs/cycles.md is normative.
"""
