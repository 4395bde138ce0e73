"""How XLA compiles what the tests run."""

FAST = (
    # Most of a test's time is compilation: these divide it by six.
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
)
