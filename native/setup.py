"""How the extension is compiled: one shared object for every CPython from 3.11 on (the limited API)."""

import os
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).parent

# No fused multiply-add and no fast-math: a result has the bits that numpy and scikit-learn give.
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-g0"]
STRICT = ["-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wno-sign-conversion", "-Wno-cast-function-type"]

if os.environ.get("SOLERA_NATIVE_STRICT"):
    FLAGS += STRICT

setup(
    ext_modules=[
        Extension(
            "solera_native",
            sources=sorted(path.name for path in HERE.glob("*.c")),
            depends=sorted(path.name for path in HERE.glob("*.h")),
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            extra_compile_args=FLAGS,
            libraries=["m"],
            py_limited_api=True,
        )
    ],
    py_modules=[],  # none of the scripts beside the C files
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
