"""XLA compiles the tests' programs quickly, and each once for all processes."""

import importlib.metadata
import os
import re
import tempfile

_JAXLIB = tuple(map(int, re.findall(r"\d+", importlib.metadata.version("jaxlib"))[:3]))

FAST = (
    # Most of a test's time is compilation: this flag divides it by six.
    "--xla_backend_optimization_level=0",
    # A flag that jaxlib does not know ends the process.
    *(("--xla_cpu_use_fusion_emitters=false",) if _JAXLIB < (0, 11, 1) else ()),
    # One LLVM module per program takes a seventh less time than many small ones.
    "--xla_cpu_parallel_codegen_split_count=1",
)
"""These flags make XLA's compilations short; this jaxlib knows all of them."""
_FOLDER = "JAX_COMPILATION_CACHE_DIR"

PROGRAMS = (
    None
    if _FOLDER in os.environ
    else tempfile.TemporaryDirectory("_programs", ignore_cleanup_errors=True)
)
"""This new folder is for compiled programs; it is None where one is given (workers)."""

SHARED = (
    {
        _FOLDER: PROGRAMS.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # Commands under test ignore this warning as pyproject.toml does.
        "PYTHONWARNINGS": "ignore:Error reading persistent compilation cache entry",
    }
    if PROGRAMS
    else {}
)
"""These environment variables tell JAX to keep its programs in that folder."""
