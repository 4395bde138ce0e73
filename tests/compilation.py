"""How XLA compiles what the tests run, each program once for all processes."""

import importlib.metadata
import os
import re
import tempfile

_JAXLIB = tuple(map(int, re.findall(r"\d+", importlib.metadata.version("jaxlib"))[:3]))

FAST = (
    # Most of a test's time is compilation: these divide it by six.
    "--xla_backend_optimization_level=0",
    # A flag that jaxlib does not know ends the process.
    *(("--xla_cpu_use_fusion_emitters=false",) if _JAXLIB < (0, 11, 1) else ()),
    # One module of LLVM's per program, not many small ones: a seventh less.
    "--xla_cpu_parallel_codegen_split_count=1",
)
"""XLA's flags for short compilations, those that this jaxlib knows."""
_FOLDER = "JAX_COMPILATION_CACHE_DIR"

PROGRAMS = (
    None
    if _FOLDER in os.environ
    else tempfile.TemporaryDirectory("_programs", ignore_cleanup_errors=True)
)
"""The new folder of what is compiled; None where one is given, as to workers."""

SHARED = (
    {
        _FOLDER: PROGRAMS.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # As in pyproject.toml, for commands that are tested.
        "PYTHONWARNINGS": "ignore:Error reading persistent compilation cache entry",
    }
    if PROGRAMS
    else {}
)
"""What tells JAX of it."""
