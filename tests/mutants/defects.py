"""All planted defects: in the arithmetic, the compiler, the firmware and what surrounds it, the cycle model."""

from tests.mutants.defects_arithmetic import ARITHMETIC
from tests.mutants.defects_bench import BENCH
from tests.mutants.defects_channels import CHANNELS
from tests.mutants.defects_compiler import COMPILER
from tests.mutants.defects_cycles import CYCLES
from tests.mutants.defects_dsp import DSP
from tests.mutants.defects_firmware import FIRMWARE
from tests.mutants.defects_models import MODELS
from tests.mutants.defects_operators import OPERATORS
from tests.mutants.defects_plain import PLAIN_AND_HELIUM
from tests.mutants.defects_profile import PROFILE
from tests.mutants.defects_pruning import PRUNING
from tests.mutants.runner import Defect

DEFECTS: tuple[Defect, ...] = (
    *ARITHMETIC,
    *OPERATORS,
    *DSP,
    *PLAIN_AND_HELIUM,
    *MODELS,
    *COMPILER,
    *CHANNELS,
    *FIRMWARE,
    *PROFILE,
    *CYCLES,
    *BENCH,
    *PRUNING,
)
